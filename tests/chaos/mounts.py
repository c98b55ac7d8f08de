"""Small and read-only file systems of one's own, where the system permits mounting them."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = 4096
"""What a tmpfs gives at once, in bytes."""
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
    """An empty disk at `folder`, with room for so many pages, or so many files and folders (its own root not counted).

    None: as many as one likes. Raises CalledProcessError where mounting isn't permitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount(folder, "-t", "tmpfs", "-o", _room(pages, inodes), "ncsnx-chaos")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def resize(folder: Path, pages: int | None = None, inodes: int | None = None) -> None:
    """Gives a small disk more or less room."""
    _mount(folder, "-o", f"remount,{_room(pages, inodes)}")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """`folder` as if on a disk that can't be written."""
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
