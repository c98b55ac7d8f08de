"""The Inception network: a stand-in with its structure, downloaded from a local server, cached and checked."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
import torch.nn.functional as F

from ncsnx.config.feature_networks import Inception
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.features.extractors import build_features
from ncsnx.features.feature_network import distance_name
from ncsnx.features.inception import INCEPTION_FILE, SHA256, InceptionNetwork, open_inception
from ncsnx.features.torchscript import CleanResizer
from ncsnx.runtime import Runtime
from ncsnx.work import Work
from tests.features.scripted import GreyOnly, StandIn, WithoutOutput, pictures, scripted, sha256
from tests.training.tiny import PATIENCE_S, damage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the published file."""
    return scripted(StandIn(), tmp_path_factory.mktemp("published") / INCEPTION_FILE)


@attrs.define
class Server:
    """A local server with its content and the number of requests."""

    content: bytes
    status: int = 200
    announced: int | None = None
    before: Callable[[], None] = lambda: None
    requests: int = 0
    address: str = ""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests += 1
            server.before()
            self.send_response(server.status)
            length = len(server.content) if server.announced is None else server.announced
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(server.content)

        def log_message(self, *words: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.address = f"http://127.0.0.1:{http.server_port}/{INCEPTION_FILE}"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def opened(cache: Path, source: str, network_file: Path, work: Work | None = None) -> InceptionNetwork:
    """The network of the cache or of an address, if its file is `network_file`."""
    published = sha256(network_file)
    return open_inception(Inception(), cache, CPU, work or Work(), source=source, published=published)


def left(cache: Path) -> set[str]:
    """Names of the files in the cache, without the lock."""
    return {path.name for path in (cache / "inception").iterdir()} - {".lock"}


# ------------------------------------------------------------------------------------------------------ the network


def test_features_are_the_layers_of_images_from_minus_1_to_1_and_logits_leave_the_bias_out(network_file: Path) -> None:
    network = InceptionNetwork(network_file, CPU, sha256(network_file))
    images, stand_in = pictures(3, 1), StandIn()
    seen = network(images)
    features = stand_in.layers((CleanResizer()(images) - 128) / 128).flatten(1)
    assert (network.name, network.dimensions, network.has_logits) == ("Inception", 2048, True)
    assert torch.equal(seen.features, features)
    assert seen.logits is not None
    assert torch.equal(seen.logits, F.linear(features, stand_in.output.weight.detach()))


def test_a_local_file_is_taken_by_path_and_told_by_its_sha256(network_file: Path, tmp_path: Path) -> None:
    runtime = Runtime.choose(device="cpu", threads=1)
    network = build_features(Inception(file=str(network_file)), None, tmp_path, runtime, Work())
    assert network.facts == {
        "type": "inception",
        "sha256": sha256(network_file),
        "dimensions": 2048,
        "images": "clean-fid bicubic 299",
    }
    assert not list(tmp_path.iterdir())


def test_only_the_published_file_is_called_inception_and_another_gets_a_name_of_its_own_and_a_warning(
    network_file: Path, tmp_path: Path
) -> None:
    warned: list[str] = []
    features = Inception(file=str(network_file))
    found = sha256(network_file)

    def name(published: str) -> str:
        return open_inception(features, tmp_path, CPU, Work(warning=warned.append), published=published).name

    assert (name(found), warned) == ("Inception", [])
    other = name(SHA256)
    assert (other, distance_name(other)) == (f"Inception file {found[:8]}", f"FD (Inception file {found[:8]})")
    (line,) = warned
    for part in (INCEPTION_FILE, found, SHA256, f"FD (Inception file {found[:8]})"):
        assert part in line


def test_a_file_without_an_output_layer_gives_features_and_no_logits(tmp_path: Path) -> None:
    path = scripted(WithoutOutput(), tmp_path / "net.pt")
    network = InceptionNetwork(path, CPU)
    assert not network.has_logits
    assert network(pictures(1, 3)).logits is None


@pytest.mark.parametrize(
    ("other", "found"),
    [(GreyOnly(), "has no attribute 'layers'"), (StandIn(features=512), r"gives \(1, 512, 1, 1\)")],
    ids=["no layers", "512 features"],
)
def test_another_network_is_refused_with_the_way_to_use_it(other: torch.nn.Module, found: str, tmp_path: Path) -> None:
    path = scripted(other, tmp_path / "net.pt")
    with pytest.raises(NcsnxError, match=rf"net\.pt is not the Inception network.*{found}.*features='torchscript:"):
        InceptionNetwork(path, CPU)


# ---------------------------------------------------------------------------------------------- download and cache


def test_it_is_downloaded_once_and_then_found_in_the_cache(network_file: Path, tmp_path: Path) -> None:
    with serving(Server(network_file.read_bytes())) as server:
        first = opened(tmp_path, server.address, network_file)
        assert opened(tmp_path, server.address, network_file).facts == first.facts
        assert server.requests == 1
    assert opened(tmp_path, server.address, network_file).facts["sha256"] == sha256(network_file)  # the server is gone
    assert left(tmp_path) == {INCEPTION_FILE}


def test_two_that_need_it_at_once_download_it_once_and_the_second_says_that_it_waits(
    network_file: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    facts: list[dict[str, Any]] = []
    asked, waiting = threading.Event(), threading.Event()

    def hear(text: str) -> None:
        said.append(text)
        if "waiting for" in text:
            waiting.set()

    def answer_when_the_second_waits() -> None:
        asked.set()
        assert waiting.wait(PATIENCE_S)

    def need_it() -> None:
        facts.append(opened(tmp_path, server.address, network_file, Work(info=hear)).facts)

    with serving(Server(network_file.read_bytes(), before=answer_when_the_second_waits)) as server:
        first, second = threading.Thread(target=need_it), threading.Thread(target=need_it)
        first.start()
        assert asked.wait(PATIENCE_S)
        second.start()
        first.join()
        second.join()
    assert server.requests == 1
    assert facts[0] == facts[1]
    assert [text.split()[0] for text in said] == ["waiting"]


def test_a_file_that_changed_since_its_download_is_refused(network_file: Path, tmp_path: Path) -> None:
    with serving(Server(network_file.read_bytes())) as server:
        opened(tmp_path, server.address, network_file)
    path = tmp_path / "inception" / INCEPTION_FILE
    damage(path)
    with pytest.raises(
        NcsnxError, match=f"has the sha256 {sha256(path)}, not the published {sha256(network_file)}.*; remove it"
    ):
        opened(tmp_path, server.address, network_file)


def test_a_copy_that_was_put_into_the_cache_by_hand_is_taken_and_checked(network_file: Path, tmp_path: Path) -> None:
    (tmp_path / "inception").mkdir()
    (tmp_path / "inception" / INCEPTION_FILE).write_bytes(network_file.read_bytes())
    assert opened(tmp_path, "http://127.0.0.1:9/nobody", network_file).facts["sha256"] == sha256(network_file)
    damage(tmp_path / "inception" / INCEPTION_FILE)
    with pytest.raises(NcsnxError, match="has the sha256"):
        opened(tmp_path, "http://127.0.0.1:9/nobody", network_file)


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (Server(b"gone", status=404), "404"),
        (Server(b"PK" * 50, announced=1000), "the connection ended after 100 of 1,000 bytes"),
        (Server(b"<html>please log in</html>"), "the received file has the sha256"),
    ],
    ids=["server error", "truncated", "another page"],
)
def test_a_download_that_fails_leaves_nothing_and_says_where_the_file_may_come_from(
    server: Server, reason: str, tmp_path: Path, network_file: Path
) -> None:
    with serving(server), pytest.raises(NcsnxError) as caught:
        opened(tmp_path, server.address, network_file)
    message = str(caught.value)
    assert reason in message
    for part in (INCEPTION_FILE, server.address, str(tmp_path / "inception"), "features inception:FILE"):
        assert part in message
    assert "\n" not in message
    assert left(tmp_path) == set()


def test_without_a_network_one_line_says_what_to_do(tmp_path: Path, network_file: Path) -> None:
    with serving(Server(b"")) as server:
        pass  # nobody listens at its address any more
    with pytest.raises(NcsnxError, match=f"cannot download {INCEPTION_FILE} from .*refused.*features inception:FILE"):
        opened(tmp_path, server.address, network_file)
    assert left(tmp_path) == set()


def test_a_stop_request_ends_a_download_and_leaves_nothing(network_file: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise Stopped("stopped by SIGTERM")

    with serving(Server(network_file.read_bytes())) as server, pytest.raises(Stopped):
        opened(tmp_path, server.address, network_file, Work(check_stop=stop))
    assert server.requests == 1
    assert left(tmp_path) == set()
