import hashlib
import io
import random
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from ncsnx.config.data_sets import CIFAR10, FFHQ, LSUN, CelebA, Data, Digits, Images
from ncsnx.data.data_set import download_data
from ncsnx.data.download.transfer import download
from ncsnx.data.download.unpacking import unpack_tar, unpack_zip
from ncsnx.data.missing import DataMissingError
from ncsnx.data.readers.cifar10 import Published, download_cifar10, read_cifar10
from ncsnx.data.readers.lsun import download_lsun, read_lsun
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.work import Advance, Work
from tests.data.miniature import FOLDER, PER_FILE, write_cifar10, write_ffhq, write_lsun
from tests.data.serving import Server, serving
from tests.training.tiny import PATIENCE_S

NAME = "set.bin"
MIB = 2**20
CONTENT = random.Random(3).randbytes(3 * MIB + 12_345)


def server(content: bytes = CONTENT, **changes: object) -> Server:
    return attrs.evolve(Server({NAME: content}), **changes)  # type: ignore[arg-type]


def get(served: Server, folder: Path, work: Work | None = None, **known: object) -> bytes:
    """Downloads the file; returns its content."""
    download(f"{served.address}/{NAME}", folder / NAME, work or Work(), **known)  # type: ignore[arg-type]
    return (folder / NAME).read_bytes()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stops_after(chunks: int) -> Work:
    """Work whose stop check raises after so many calls."""
    asked = 0

    def check_stop() -> None:
        nonlocal asked
        asked += 1
        if asked > chunks:
            raise Stopped("stopped by SIGTERM")

    return Work(check_stop=check_stop)


@attrs.define
class Shown:
    """Records the progress shown."""

    jobs: list[tuple[str, int, str, int]] = attrs.Factory(list)

    @contextmanager
    def __call__(self, name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
        done = 0

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count

        yield advance
        self.jobs.append((name, total, unit, done))


# ------------------------------------------------------------------------------------------------- complete downloads


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_is_there_whole_with_nothing_beside_it(tmp_path: Path, says_length: bool) -> None:
    shown = Shown()
    with serving(server(says_length=says_length)) as served:
        assert get(served, tmp_path / "new" / "folder", Work(progress=shown)) == CONTENT
    assert left(tmp_path / "new" / "folder") == {NAME}
    assert shown.jobs == [(f"downloading {NAME}", 4 if says_length else 0, "MiB", 3)]


def test_size_and_digests_that_are_published_are_checked(tmp_path: Path) -> None:
    digests = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("sha256", "md5")}
    with serving(server()) as served:
        assert get(served, tmp_path, size=len(CONTENT), **digests) == CONTENT


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"size": 5}, r"\(5 bytes\).*the server's file has 3,158,073 bytes, so it is another file"),
        (
            {"sha256": "0" * 64},
            "the received file has 3,158,073 bytes and the sha256 [0-9a-f]{64}, not the published 0",
        ),
        ({"md5": "0" * 32}, "the received file has 3,158,073 bytes and the md5 [0-9a-f]{32}, not the published 0{32}"),
        ({"check": lambda path: f"is not {path.suffix}"}, r"the received file has 3,158,073 bytes and is not \.part"),
    ],
)
def test_a_file_other_than_the_published_is_removed(tmp_path: Path, known: dict[str, object], reason: str) -> None:
    with serving(server()) as served, pytest.raises(NcsnxError, match=reason):
        get(served, tmp_path, **known)
    assert left(tmp_path) == set()


def test_a_server_without_content_length_is_held_to_the_published_size(tmp_path: Path) -> None:
    with (
        serving(server(says_length=False)) as served,
        pytest.raises(NcsnxError, match="the server sent more than 2,000,000 bytes"),
    ):
        get(served, tmp_path, size=2_000_000)
    assert left(tmp_path) == set()


def test_a_broken_connection_without_content_length_is_resumed(tmp_path: Path) -> None:
    with serving(server(says_length=False, breaks_off_after=[100_000])) as served:
        assert get(served, tmp_path, size=len(CONTENT)) == CONTENT
        assert served.ranges == [None, "bytes=100000-"]


def test_an_existing_file_is_checked_and_used_without_a_request(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    with serving(server()) as served:
        assert get(served, tmp_path, size=len(CONTENT)) == CONTENT
        with pytest.raises(NcsnxError, match=rf"{NAME} has 3,158,073 bytes, but the published file has 7; remove"):
            get(served, tmp_path, size=7)
        assert served.ranges == []
    assert (tmp_path / NAME).read_bytes() == CONTENT


# ---------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("marks", [{}, {"etag": None, "modified": "Sun, 12 Mar 2017 22:53:00 GMT"}])
def test_a_stopped_download_resumes_where_it_was(tmp_path: Path, marks: dict[str, str | None]) -> None:
    shown = Shown()
    with serving(server(**marks)) as served:
        with pytest.raises(Stopped) as stop:
            get(served, tmp_path, stops_after(2))
        have = (tmp_path / f"{NAME}.part").stat().st_size
        assert 0 < have < len(CONTENT)
        assert stop.value.then == f"{have:,} bytes of {NAME} are kept, and the same command resumes there"
        assert get(served, tmp_path, Work(progress=shown)) == CONTENT
        assert served.ranges == [None, f"bytes={have}-"]
    assert left(tmp_path) == {NAME}
    assert shown.jobs == [(f"downloading {NAME}", 4, "MiB", 3)]


def test_without_a_validator_a_stopped_download_starts_over_and_says_so(tmp_path: Path) -> None:
    with serving(server(etag=None, modified=None)) as served:
        with pytest.raises(Stopped) as stop:
            get(served, tmp_path, stops_after(2))
        assert stop.value.then == f"nothing of {NAME} is kept, and the same command starts over"
        assert left(tmp_path) == set()
        assert get(served, tmp_path) == CONTENT
        assert served.ranges == [None, None]


def test_a_broken_connection_is_resumed(tmp_path: Path) -> None:
    said: list[str] = []
    with serving(server(breaks_off_after=[100_000, 5])) as served:
        assert get(served, tmp_path, Work(info=said.append)) == CONTENT
        assert served.ranges == [None, "bytes=100000-", "bytes=100005-"]
    assert said[0] == f"{NAME}: the connection ended after 100,000 of 3,158,073 bytes; asking for the rest"


def test_a_connection_without_progress_ends_the_download_and_keeps_the_part(tmp_path: Path) -> None:
    with serving(server(breaks_off_after=[100_000, 0])) as served:
        with pytest.raises(NcsnxError, match=r"ended after 100,000 of .* bytes; repeat the command, which resumes"):
            get(served, tmp_path)
        assert get(served, tmp_path) == CONTENT
        assert served.ranges == [None, "bytes=100000-", "bytes=100000-"]


def test_a_server_without_ranges_sends_the_whole_file_again(tmp_path: Path) -> None:
    with serving(server(knows_ranges=False, breaks_off_after=[100_000])) as served:
        assert get(served, tmp_path) == CONTENT
        assert served.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("minds_changes", [True, False])
def test_a_file_that_changed_meanwhile_is_downloaded_again(tmp_path: Path, minds_changes: bool) -> None:
    other = random.Random(4).randbytes(len(CONTENT))
    with serving(server()) as served:
        with pytest.raises(Stopped):
            get(served, tmp_path, stops_after(2))
        served.files[NAME], served.etag, served.minds_changes = other, '"two"', minds_changes
        assert get(served, tmp_path) == other
    assert left(tmp_path) == {NAME}


def test_a_file_that_became_shorter_is_downloaded_again(tmp_path: Path) -> None:
    with serving(server(minds_changes=False)) as served:
        with pytest.raises(Stopped):
            get(served, tmp_path, stops_after(2))
        served.files[NAME] = CONTENT[:1000]
        assert get(served, tmp_path) == CONTENT[:1000]


def test_a_complete_part_of_a_killed_process_is_finished_without_another_transfer(tmp_path: Path) -> None:
    with serving(server()) as served:
        with pytest.raises(Stopped):
            get(served, tmp_path, stops_after(2))
        (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
        assert get(served, tmp_path) == CONTENT
        assert served.ranges[1:] == [f"bytes={len(CONTENT)}-"]


def test_a_part_from_another_address_is_not_resumed(tmp_path: Path) -> None:
    other = random.Random(4).randbytes(len(CONTENT))
    with serving(server()) as first, pytest.raises(Stopped):
        get(first, tmp_path, stops_after(2))
    with serving(server(other)) as second:
        assert get(second, tmp_path) == other


def test_without_a_validator_nothing_is_kept(tmp_path: Path) -> None:
    with serving(server(etag=None, breaks_off_after=[100_000])) as served:
        with pytest.raises(NcsnxError, match="ended after 100,000 of 3,158,073 bytes; repeat the command; or"):
            get(served, tmp_path)
        assert left(tmp_path) == set()
        served.etag = 'W/"weak"'
        with pytest.raises(Stopped):
            get(served, tmp_path, stops_after(2))
    assert left(tmp_path) == set()


def test_a_second_process_is_told_to_wait(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer_later() -> None:
        asked.set()
        assert go_on.wait(PATIENCE_S)

    with serving(server(before=answer_later)) as served:
        first = threading.Thread(target=get, args=(served, tmp_path))
        first.start()
        assert asked.wait(PATIENCE_S)
        with pytest.raises(NcsnxError, match="is being downloaded by another process"):
            get(served, tmp_path)
        go_on.set()
        first.join()
    assert (tmp_path / NAME).read_bytes() == CONTENT


# ---------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": 401}, "the server answers 401 Unauthorized: it requires a login"),
        ({"status": 403}, "403 Forbidden: it requires a login, or has a quota"),
        ({"status": 500}, "the server answers 500 Internal Server Error;"),
        ({"files": {}}, "the server answers 404 Not Found: the file has moved"),
        (
            {"content_type": "text/html; charset=utf-8"},
            "the server sent a web page instead of the file, such as a login",
        ),
    ],
)
def test_a_refusal_by_the_server_is_one_line_with_the_place_for_the_file(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    with serving(server(**changes)) as served, pytest.raises(NcsnxError) as caught:
        get(served, tmp_path, size=len(CONTENT), otherwise=", or ask a friend")
    message = str(caught.value)
    for part in (f"cannot download {NAME} (3,158,073 bytes)", f"{served.address}/{NAME}", reason, str(tmp_path)):
        assert part in message
    assert message.endswith(f"put it into {tmp_path}, or ask a friend")
    assert "\n" not in message
    assert left(tmp_path) == set()


def test_without_a_network_the_part_is_kept(tmp_path: Path) -> None:
    with serving(server()) as served, pytest.raises(Stopped):
        get(served, tmp_path, stops_after(2))
    with pytest.raises(NcsnxError, match=r"refused; repeat the command, which resumes where it stopped; or get"):
        get(served, tmp_path)
    assert left(tmp_path) == {f"{NAME}.part", f"{NAME}.part.json"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with serving(server()) as served, pytest.raises(NcsnxError, match=rf"cannot write {tmp_path}/file"):
        get(served, tmp_path / "file")


# ---------------------------------------------------------------------------------------------------------- unpacking


def tar(members: dict[str, bytes | None]) -> bytes:
    """A .tar.gz of members by name; None stands for a link to /etc/passwd."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data or b""))
    return content.getvalue()


def test_only_the_expected_members_are_unpacked_and_nothing_leaves_the_folder(tmp_path: Path) -> None:
    archive = tmp_path / "set.tar.gz"
    archive.write_bytes(
        tar({"./set/a.bin": b"a", "../out": b"x", "/tmp/out": b"x", "set/more": b"x", "set/b.bin": b"b"})
    )
    unpack_tar(archive, {"set/a.bin": "a", "set/b.bin": "b"}, tmp_path / "new" / "set", 10, Work())
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "set.tar.gz",
        "new/set/a",
        "new/set/b",
    }


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"set/a": b"a"}, "lacks set/b"),
        ({"set/a": b"a", "set/b": None}, "set/b is not a file of at most 10 bytes"),
        ({"set/a": b"a", "set/b": b"much too large"}, "set/b is not a file of at most 10 bytes"),
    ],
)
def test_a_tar_that_lacks_a_file_or_has_another_is_refused_whole(
    tmp_path: Path, members: dict[str, bytes | None], found: str
) -> None:
    archive = tmp_path / "set.tar.gz"
    archive.write_bytes(tar(members))
    with pytest.raises(NcsnxError, match=rf"set\.tar\.gz: {found}"):
        unpack_tar(archive, {"set/a": "a", "set/b": "b"}, tmp_path / "set", 10, Work())
    assert left(tmp_path) == {"set.tar.gz"}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-4],
        lambda content: content[:20_000],
        lambda content: content[:20_000] + bytes([content[20_000] ^ 1]) + content[20_001:],
        lambda content: b"PK" + content,
    ],
    ids=["cut at the end", "cut", "one bit", "no gzip"],
)
def test_a_damaged_tar_is_named_and_leaves_nothing(tmp_path: Path, change: "type[bytes]") -> None:
    archive = tmp_path / "set.tar.gz"
    archive.write_bytes(change(tar({"set/a": random.Random(1).randbytes(50_000)})))
    with pytest.raises(NcsnxError, match=r"set\.tar\.gz: cannot be unpacked.*remove it, then repeat the command"):
        unpack_tar(archive, {"set/a": "a"}, tmp_path / "set", 100_000, Work())
    assert left(tmp_path) == {"set.tar.gz"}


def test_a_damaged_zip_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("set/a", bytes(5000))
    unpack_zip(archive, {"set/a": "a"}, tmp_path / "sound", Work())
    assert (tmp_path / "sound" / "a").read_bytes() == bytes(5000)
    with pytest.raises(NcsnxError, match=r"set\.zip: lacks set/b"):
        unpack_zip(archive, {"set/b": "b"}, tmp_path / "set", Work())
    content = bytearray(archive.read_bytes())
    content[1000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(NcsnxError, match=r"set\.zip: cannot be unpacked: Bad CRC"):
        unpack_zip(archive, {"set/a": "a"}, tmp_path / "set", Work())
    assert left(tmp_path) == {"set.zip", "sound"}


# ------------------------------------------------------------------------------------------------------ the data sets


def cifar10_archive(folder: Path) -> bytes:
    write_cifar10(folder / FOLDER)
    return tar({f"{FOLDER}/{path.name}": path.read_bytes() for path in sorted((folder / FOLDER).iterdir())})


def test_cifar10_is_downloaded_unpacked_and_read(tmp_path: Path) -> None:
    content = cifar10_archive(tmp_path / "source")
    with serving(Server({"cifar-10-binary.tar.gz": content})) as served:
        published = Published(
            f"{served.address}/cifar-10-binary.tar.gz", len(content), hashlib.md5(content).hexdigest()
        )
        folder = download_cifar10(CIFAR10(), tmp_path / "data", Work(), published)
        assert folder == download_cifar10(CIFAR10(), tmp_path / "data", Work(), published)
        assert served.ranges == [None]
        (folder / "test_batch.bin").unlink()
        with pytest.raises(NcsnxError, match="exists, but lacks files of the data set; remove it"):
            download_cifar10(CIFAR10(), tmp_path / "data", Work(), published)
        with pytest.raises(NcsnxError, match=r"not the published 0{32}"):
            download_cifar10(CIFAR10(), tmp_path / "x", Work(), attrs.evolve(published, md5="0" * 32))
    assert left(tmp_path / "data") == {FOLDER}
    write_cifar10(tmp_path / "expected")
    for path in (tmp_path / "expected").iterdir():
        if path.name != "test_batch.bin":
            assert (folder / path.name).read_bytes() == path.read_bytes()


def test_the_reader_reads_the_downloaded_data_set(tmp_path: Path) -> None:
    content = cifar10_archive(tmp_path / "source")
    with serving(Server({"cifar-10-binary.tar.gz": content})) as served:
        published = Published(
            f"{served.address}/cifar-10-binary.tar.gz", len(content), hashlib.md5(content).hexdigest()
        )
        for data in (CIFAR10(), CIFAR10(root=str(tmp_path / "elsewhere"))):
            download_cifar10(data, tmp_path / "data", Work(), published)
            assert len(read_cifar10(data, tmp_path / "data").train) == 5 * PER_FILE


def test_both_splits_of_an_lsun_category_are_downloaded_unpacked_and_read(tmp_path: Path) -> None:
    write_lsun(tmp_path / "source", "tower")
    files = {}
    for name in ("tower_train_lmdb", "tower_val_lmdb"):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as packed:
            for path in sorted((tmp_path / "source" / name).iterdir()):
                packed.write(path, f"{name}/{path.name}")
        files[f"{name}.zip"] = content.getvalue()
    data = LSUN(category="tower", image_size=16)
    with serving(Server(files)) as served:
        folder = download_lsun(data, tmp_path / "data", Work(), served.address)
        assert download_lsun(data, tmp_path / "data", Work(), served.address) == folder
        assert served.ranges == [None, None]
    assert left(folder) == {"tower_train_lmdb", "tower_val_lmdb"}
    splits = read_lsun(data, tmp_path / "data", Work())
    assert (
        splits.fingerprint == read_lsun(attrs.evolve(data, root=str(tmp_path / "source")), tmp_path, Work()).fingerprint
    )


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (CelebA(), ["img_align_celeba.zip (1.4 GB", "list_eval_partition.txt", "mmlab.ie.cuhk.edu.hk", "celeba"]),
        (FFHQ(), ["images1024x1024 (89 GB)", "NVlabs/ffhq-dataset", "ncsnx data build ffhq", "--size 256", "ffhq"]),
    ],
)
def test_sets_behind_a_login_say_which_files_to_get_and_where_to_put_them(
    tmp_path: Path, data: Data, parts: list[str]
) -> None:
    with pytest.raises(DataMissingError, match="cannot be downloaded automatically") as caught:
        download_data(data, tmp_path, Work())
    message = str(caught.value)
    assert all(part in message for part in (*parts[:-1], str(tmp_path / parts[-1])))
    assert "\n" not in message


def test_existing_data_sets_are_left_alone(tmp_path: Path) -> None:
    write_cifar10(tmp_path / FOLDER)
    write_lsun(tmp_path / "lsun")
    write_ffhq(tmp_path / "ffhq", 3)
    assert download_data(CIFAR10(), tmp_path, Work()) == tmp_path / FOLDER
    assert download_data(LSUN(category="bedroom", image_size=16), tmp_path, Work()) == tmp_path / "lsun"
    assert download_data(FFHQ(image_size=16), tmp_path, Work()) == tmp_path / "ffhq"


@pytest.mark.parametrize("data", [Digits(), Images(root="mine", image_size=32)])
def test_sets_that_need_no_download_say_so(tmp_path: Path, data: Data) -> None:
    with pytest.raises(NcsnxError, match="nothing to download"):
        download_data(data, tmp_path, Work())
