import hashlib
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
import torchvision

from ncsnx.config.data_sets import CIFAR10, LSUN, MNIST, Digits
from ncsnx.data.download import PublishedFile, download
from ncsnx.data.places import DataMissingError
from ncsnx.data.readers.cifar10 import download_cifar10, read_cifar10
from ncsnx.data.readers.lsun import read_lsun
from ncsnx.data.readers.mnist import download_mnist
from ncsnx.data.registry import download_data
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.work import Work
from tests.data.miniature import FOLDER, PER_FILE, write_cifar10, write_lsun, write_mnist
from tests.data.serving import Server, serving
from tests.data.watching import Watcher

NAME = "set.bin"
CONTENT = random.Random(3).randbytes(3 * 2**20 + 12_345)


def server(content: bytes = CONTENT, **changes: object) -> Server:
    return attrs.evolve(Server({NAME: content}), **changes)  # type: ignore[arg-type]


def get(served: Server, folder: Path, work: Work | None = None, **known: Any) -> bytes:
    """Downloads the file; returns its content. known: facts of the published file."""
    download(PublishedFile(f"{served.address}/{NAME}", **known), folder / NAME, work or Work(), otherwise=", or ask")
    return (folder / NAME).read_bytes()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------------- complete downloads


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_is_there_whole_with_nothing_beside_it(tmp_path: Path, says_length: bool) -> None:
    watcher = Watcher()
    md5 = hashlib.md5(CONTENT).hexdigest()
    with serving(server(says_length=says_length)) as served:
        assert get(served, tmp_path / "new" / "folder", watcher.work, md5=md5) == CONTENT
    assert left(tmp_path / "new" / "folder") == {NAME}
    assert watcher.jobs == [(f"downloading {NAME}", len(CONTENT))]
    assert watcher.totals == [len(CONTENT) if says_length else 0]


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"md5": "0" * 32}, r"the received file \(3,158,073 bytes\) has the md5 [0-9a-f]{32}, not the published 0{32}"),
        ({"check": lambda path: f"is not {path.suffix}"}, r"the received file is not \."),
    ],
)
def test_a_file_other_than_the_published_is_removed(tmp_path: Path, known: dict[str, Any], reason: str) -> None:
    with serving(server()) as served, pytest.raises(NcsnxError, match=reason):
        get(served, tmp_path, **known)
    assert left(tmp_path) == set()


def test_an_existing_file_is_checked_and_used_without_a_request(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    with serving(server()) as served:
        assert get(served, tmp_path) == CONTENT
        with pytest.raises(NcsnxError, match=rf"{NAME} .* not the published 7; remove it"):
            get(served, tmp_path, md5="7")
        assert served.requests == 0
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_stop_or_a_broken_connection_leaves_nothing(tmp_path: Path) -> None:
    polls = iter([False, True])

    def stop() -> None:
        if next(polls):
            raise Stopped("stopped by SIGTERM")

    with serving(server(breaks_off_after=[100_000])) as served:
        with pytest.raises(NcsnxError, match=r"100,000 .*; repeat the command"):
            get(served, tmp_path)
        assert left(tmp_path) == set()
        with pytest.raises(Stopped):
            get(served, tmp_path, Work(check_stop=stop))
        assert left(tmp_path) == set()
        assert get(served, tmp_path) == CONTENT


# ---------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(("changes", "reason"), [({"status": 403}, "403"), ({"files": {}}, "404")])
def test_a_servers_refusal_names_the_place_for_it(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with serving(server(**changes)) as served, pytest.raises(NcsnxError) as caught:
        get(served, tmp_path)
    message = str(caught.value)
    for part in (f"cannot download {NAME} from", f"{served.address}/{NAME}", reason, str(tmp_path)):
        assert part in message
    assert message.endswith(f"put it into {tmp_path}, or ask")
    assert "\n" not in message
    assert left(tmp_path) == set()


# ------------------------------------------------------------------------------------------------------ the data sets


def test_cifar10_is_downloaded_unpacked_and_read(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "source" / FOLDER)
    content = Path(shutil.make_archive(str(tmp_path / "cifar"), "gztar", tmp_path / "source", FOLDER)).read_bytes()
    with serving(Server({"cifar-10-binary.tar.gz": content})) as served:
        published = PublishedFile(f"{served.address}/cifar-10-binary.tar.gz", hashlib.md5(content).hexdigest())
        elsewhere = CIFAR10(root=str(tmp_path / "elsewhere"))
        download_cifar10(elsewhere, tmp_path / "data", Work(), published)
        assert len(read_cifar10(elsewhere, tmp_path / "data").train) == 5 * PER_FILE
        folder = download_cifar10(CIFAR10(), tmp_path / "data", Work(), published)
        assert folder == download_cifar10(CIFAR10(), tmp_path / "data", Work(), published)
        assert served.requests == 2
        (folder / "test_batch.bin").unlink()
        with pytest.raises(NcsnxError, match="exists, but lacks files of the data set; remove it"):
            download_cifar10(CIFAR10(), tmp_path / "data", Work(), published)
        with pytest.raises(NcsnxError, match=r"not the published 0{32}"):
            download_cifar10(CIFAR10(), tmp_path / "x", Work(), attrs.evolve(published, md5="0" * 32))
    assert left(tmp_path / "data") == {FOLDER}
    for path in (tmp_path / "source" / FOLDER).iterdir():
        if path.name != "test_batch.bin":
            assert (folder / path.name).read_bytes() == path.read_bytes()


def test_what_mnist_lacks_is_downloaded_as_by_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "source")
    files = {path.name: path.read_bytes() for path in (tmp_path / "source").iterdir()}
    with serving(Server(files)) as served:
        known = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{served.address}/"])
        monkeypatch.setattr(torchvision.datasets.MNIST, "resources", known)
        folder = download_mnist(MNIST(), tmp_path, Work())
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
        assert download_mnist(MNIST(), tmp_path, Work()) == folder
        assert served.requests == 4
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(NcsnxError, match=rf"cannot download t10k-labels-idx1-ubyte\.gz .* put it into {folder}"):
        download_mnist(MNIST(), tmp_path, Work())


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs unzip")
def test_lsun_says_the_commands_that_download_and_unpack_it(tmp_path: Path) -> None:
    data = LSUN(category="tower", image_size=16)
    with pytest.raises(DataMissingError) as caught:
        download_data(data, tmp_path, Work())
    (tmp_path / "lsun").mkdir()
    for split in ("train", "val"):
        name = f"tower_{split}_lmdb"
        assert f"http://dl.yf.io/lsun/scenes/{name}.zip" in str(caught.value)
        write_lsun(tmp_path / "source", "tower") if split == "train" else None
        shutil.make_archive(str(tmp_path / "lsun" / name), "zip", tmp_path / "source", name)
    unpack = next(hint.adds or hint.command for hint in caught.value.hints if "unzip" in str(hint))
    subprocess.run(unpack, shell=True, check=True, stdout=subprocess.DEVNULL)
    assert len(read_lsun(data, tmp_path, Work()).train) > 0


def test_existing_data_sets_are_left_alone(tmp_path: Path) -> None:
    write_cifar10(tmp_path / FOLDER)
    write_lsun(tmp_path / "lsun")
    for data in (CIFAR10(), LSUN(category="bedroom", image_size=16), Digits()):
        download_data(data, tmp_path, Work())
