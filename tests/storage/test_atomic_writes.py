"""Atomic writes of files and folders."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ncsnx.errors import NcsnxError
from ncsnx.storage import atomic
from tests.conftest import StartPython

LIMITED = """
import resource, sys
from pathlib import Path
from ncsnx.errors import NcsnxError
from ncsnx.storage import atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    {call}
except NcsnxError as error:
    print(error)
"""


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_files_and_folders_get_the_mode_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        atomic.write_bytes(tmp_path / "file", b"content")
        atomic.append_line(tmp_path / "lines", "content")
        with atomic.new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    assert modes == {"file": 0o666 & ~umask, "lines": 0o666 & ~umask, "folder": 0o777 & ~umask}


@pytest.mark.parametrize(
    ("call", "size"),
    [
        ("atomic.write_bytes(Path(sys.argv[1]), bytes(5000))", "5,000"),
        ("atomic.append_line(Path(sys.argv[1]), 'x' * 5000)", "5,001"),
    ],
)
def test_a_full_disk_leaves_what_was_there_and_says_path_size_and_reason(
    tmp_path: Path, start_python: StartPython, call: str, size: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before\n")
    out, err = start_python(LIMITED.format(call=call), path).communicate()
    assert err == ""
    assert out.count("\n") == 1
    assert f"{path} ({size} bytes): File too large" in out
    assert path.read_bytes() == b"before\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_place_of_a_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NcsnxError, match=r"cannot write .*file/below \(3 bytes\): Not a directory"):
        atomic.write_bytes(tmp_path / "file" / "below", b"abc")


def test_appending_removes_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"first\nto")
    atomic.append_line(path, "second")
    assert path.read_bytes() == b"first\nsecond\n"
    path.write_bytes(b"torn")
    atomic.append_line(path, "only")
    assert path.read_bytes() == b"only\n"


def test_a_folder_whose_filling_fails_leaves_nothing(tmp_path: Path) -> None:
    def fill_and_fail() -> None:
        with atomic.new_folder(tmp_path / "new") as folder:
            atomic.write_new(folder / "file", b"content")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_created_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def be_overtaken() -> None:
        with atomic.new_folder(tmp_path / "new"):
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "other").write_bytes(b"")

    with pytest.raises(NcsnxError):
        be_overtaken()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "other"]


def test_a_place_is_refused_whose_temporary_name_would_be_too_long(tmp_path: Path) -> None:
    atomic.check_place(tmp_path / "new" / ("x" * 200))
    for length in (250, 300):  # the first is a name, and what is added to it isn't
        with pytest.raises(NcsnxError, match="File name too long; choose a shorter name"):
            atomic.check_place(tmp_path / ("x" * length))


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.json_bytes({"loss": float("nan")})


def test_contents_are_on_the_disk_before_names_and_these_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut, a system has a rename only if its folder was synced."""
    done: list[str] = []
    sync, rename, replace = os.fsync, Path.rename, Path.replace

    def name(path: Path) -> str:
        return "temporary" if atomic.is_temporary(path.name) else path.name

    def fsync(descriptor: int) -> None:
        done.append(f"sync {name(Path(f'/proc/self/fd/{descriptor}').resolve())}")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", lambda path, to: (done.append(f"name {to.name}"), rename(path, to))[1])
    monkeypatch.setattr(Path, "replace", lambda path, to: (done.append(f"name {to.name}"), replace(path, to))[1])

    def synced(write: Callable[[], object]) -> list[str]:
        done.clear()
        write()
        return done

    parent = f"sync {tmp_path.name}"
    assert synced(lambda: atomic.write_bytes(tmp_path / "file", b"content")) == ["sync temporary", "name file", parent]
    with atomic.new_folder(tmp_path / "folder"):
        done.clear()
    assert done == ["sync temporary", "name folder", parent]
    assert synced(lambda: atomic.append_line(tmp_path / "lines", "first")) == ["sync lines", parent]
    assert synced(lambda: atomic.append_line(tmp_path / "lines", "second")) == ["sync lines"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EBADF])
def test_folders_that_cannot_be_synced_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic.write_bytes(tmp_path / "file", b"content")
    with atomic.new_folder(tmp_path / "folder"):
        pass
    atomic.append_line(tmp_path / "lines", "line")
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("of_folders", [False, True])
def test_what_cannot_be_synced_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_folders: bool) -> None:
    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() == of_folders:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(NcsnxError, match="Input/output error"):
        atomic.write_bytes(tmp_path / "file", b"content")
    assert atomic.debris(tmp_path) == []
