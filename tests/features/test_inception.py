"""The Inception network: a stand-in with its structure, downloaded from a local server, cached and checked."""

import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ncsnx.config.feature_networks import Inception
from ncsnx.errors import NcsnxError
from ncsnx.features.feature_network import distance_name
from ncsnx.features.inception import INCEPTION_FILE, SHA256, InceptionNetwork, open_inception
from ncsnx.features.torchscript import CleanResizer
from ncsnx.storage.cache import cache_lock
from ncsnx.work import Work
from tests.data.serving import Server, serving
from tests.features.scripted import GrayOnly, StandIn, pictures, scripted, sha256
from tests.training.tiny import PATIENCE_S, damage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the published file."""
    return scripted(StandIn(), tmp_path_factory.mktemp("published") / INCEPTION_FILE)


def opened(cache: Path, server: Server, network_file: Path, work: Work | None = None) -> InceptionNetwork:
    """The network of the cache or of a server, if its file is `network_file`."""
    published, source = sha256(network_file), f"{server.address}/{INCEPTION_FILE}"
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
    assert network.facts == {
        "type": "inception",
        "sha256": sha256(network_file),
        "dimensions": 2048,
        "images": "clean-fid bicubic 299",
    }
    assert seen.logits is not None
    assert torch.equal(seen.logits, F.linear(features, stand_in.output.weight.detach()))


def test_only_the_published_file_is_called_inception_without_a_warning(network_file: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("output", [torch.nn.Identity(), torch.nn.Linear(5, 3)], ids=["none", "another"])
def test_a_file_without_the_output_layer_gives_features_and_no_logits(output: torch.nn.Module, tmp_path: Path) -> None:
    stand_in = StandIn()
    stand_in.output = output
    network = InceptionNetwork(scripted(stand_in, tmp_path / "net.pt"), CPU)
    assert (network.has_logits, network(pictures(1, 3)).logits) == (False, None)


@pytest.mark.parametrize(
    ("other", "found"),
    [(GrayOnly(), "has no attribute 'layers'"), (StandIn(features=512), r"gives \(1, 512, 1, 1\)")],
    ids=["no layers", "512 features"],
)
def test_another_network_is_refused_with_the_way_to_use_it(other: torch.nn.Module, found: str, tmp_path: Path) -> None:
    path = scripted(other, tmp_path / "net.pt")
    with pytest.raises(NcsnxError, match=rf"net\.pt is not the Inception network.*{found}.*features='torchscript:"):
        InceptionNetwork(path, CPU)


# ---------------------------------------------------------------------------------------------- download and cache


def test_it_is_downloaded_once_and_then_found_in_the_cache(network_file: Path, tmp_path: Path) -> None:
    with serving(Server({INCEPTION_FILE: network_file.read_bytes()})) as server:
        first = opened(tmp_path, server, network_file)
        assert opened(tmp_path, server, network_file).facts == first.facts
        assert server.requests == 1
    assert left(tmp_path) == {INCEPTION_FILE}
    path = tmp_path / "inception" / INCEPTION_FILE
    damage(path)
    with pytest.raises(
        NcsnxError, match=f"has the sha256 {sha256(path)}, not the published {sha256(network_file)}.*; remove it"
    ):
        opened(tmp_path, server, network_file)


def test_a_download_that_fails_leaves_nothing_and_says_where_to_get_it(tmp_path: Path, network_file: Path) -> None:
    page = Server({INCEPTION_FILE: b"<html>please log in</html>"})
    with serving(page), pytest.raises(NcsnxError, match="the received file has the sha256") as caught:
        opened(tmp_path, page, network_file)
    for part in (INCEPTION_FILE, page.address, str(tmp_path / "inception"), "features inception:FILE"):
        assert part in str(caught.value)
    assert left(tmp_path) == set()


def test_one_waits_for_the_download_of_another(network_file: Path, tmp_path: Path) -> None:
    waits = threading.Event()
    with serving(Server({INCEPTION_FILE: network_file.read_bytes()})) as server:
        work = Work(info=lambda text: waits.set())
        second = threading.Thread(target=opened, args=(tmp_path, server, network_file, work))
        with cache_lock(tmp_path / "inception", INCEPTION_FILE, Work()):
            second.start()
            assert waits.wait(PATIENCE_S)
            assert server.requests == 0
        second.join()
    assert server.requests == 1
