"""Small and read-only file systems, where mounting is permitted."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = 4096
"""Allocation unit of a tmpfs in bytes."""
LARGE = "256m"


def can_mount() -> bool:
    """Whether this process may mount a tmpfs."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder)):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def small_disk(folder: Path, pages: int | None = None, inodes: int | None = None) -> Iterator[Path]:
    """An empty disk at `folder` with a limited number of pages, or of files and folders (without its root).

    None: unlimited. Raises CalledProcessError if mounting isn't permitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount(folder, "-t", "tmpfs", "-o", _room(pages, inodes), "ncsnx-chaos")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def resize(folder: Path, pages: int | None = None, inodes: int | None = None) -> None:
    """Changes the limits of a small disk."""
    _mount(folder, "-o", f"remount,{_room(pages, inodes)}")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Makes `folder` read-only, as on a read-only disk."""
    _mount(folder, "--bind", str(folder))
    try:
        _mount(folder, "-o", "remount,bind,ro")
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def _room(pages: int | None, inodes: int | None) -> str:
    size = LARGE if pages is None else str(max(1, pages) * PAGE)
    return f"size={size},nr_inodes={100_000 if inodes is None else inodes + 1}"


def _mount(folder: Path, *options: str) -> None:
    if shutil.which("mount") is None:
        raise OSError("there is no mount")
    subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True)
