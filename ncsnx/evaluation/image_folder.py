"""A folder of pictures as real images: every picture below it, in the order of the relative paths.

Pixels are those of clean-fid (Parmar, Zhang & Zhu 2022): each picture in RGB, turned as it is stored, at its own size.
A folder that holds nothing but grey pictures keeps its one channel.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ncsnx.data import fingerprint
from ncsnx.errors import NcsnxError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Endings of the names of pictures, in any case."""

# what those endings stand for: Pillow would also open formats that start other programs
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_GREY_MODES = ("1", "L")


@attrs.frozen
class ImageFolder:
    """The pictures of a folder, found but not read."""

    root: Path
    files: tuple[Path, ...]
    fingerprint: str

    @classmethod
    def open(cls, root: Path) -> "ImageFolder":
        """Finds the pictures. Raises NcsnxError where there is none, and where the folder can't be read."""
        files = find_pictures(root)
        return cls(root, files, fingerprint.of_files(root, files))

    @property
    def title(self) -> str:
        """For people."""
        return f"folder {self.root.resolve()}"

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that tells these pictures from others; their place doesn't count."""
        return {"kind": "folder", "fingerprint": self.fingerprint}

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, size: int, check_stop: Callable[[], None]) -> Iterator[Tensor]:
        """Pictures in order, (b, C, H, W) uint8: at most `size` neighbours of one height and width at a time.

        C is 1 where all are grey, else 3. Raises NcsnxError that names every picture that can't be read, once all have
        been looked at.
        """
        grey, broken = self._look(check_stop)
        held: list[Tensor] = []
        for path in self.files:
            check_stop()
            try:
                pixels = _pixels(path, "L" if grey else "RGB")
            except _BrokenError as error:
                broken[path] = str(error)
                continue
            if broken:
                continue  # nothing can come of this any more, but all that is wrong is to be named
            if held and (len(held) == size or held[0].shape != pixels.shape):
                yield torch.stack(held)
                held = []
            held.append(pixels)
        _refuse(self.root, broken)
        yield torch.stack(held)

    def _look(self, check_stop: Callable[[], None]) -> tuple[bool, dict[Path, str]]:
        """Whether all pictures are grey, and what is wrong with those that can't even be opened."""
        broken: dict[Path, str] = {}
        grey = True
        for path in self.files:
            check_stop()
            try:
                with _opened(path) as picture:
                    grey = grey and picture.mode in _GREY_MODES
            except _BrokenError as error:
                broken[path] = str(error)
        return grey, broken


def find_pictures(root: Path) -> tuple[Path, ...]:
    """The paths of all pictures below `root`, sorted; hidden files and folders are passed over.

    Links are followed, each folder once, so that they can't go round in circles. Raises NcsnxError where there is no
    picture, and for names that don't lead to a file.
    """
    try:
        files = tuple(_walk(root, set()))
        strange = {path: "isn't a file" for path in files if not path.is_file()}
    except OSError as error:
        raise NcsnxError(f"{error.filename or root}: can't be read: {error.strerror}") from error
    _refuse(root, strange | {path: "rename it: its name isn't UTF-8" for path in files if not _is_text(path)})
    if not files:
        raise NcsnxError(f"{root}: expected images ({', '.join(SUFFIXES)}) in this folder or below it, found none")
    return files


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    place = folder.stat()
    if (place.st_dev, place.st_ino) in seen:
        return
    seen.add((place.st_dev, place.st_ino))
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, seen)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _is_text(path: Path) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


def _refuse(root: Path, broken: dict[Path, str]) -> None:
    if broken:
        listed = "; ".join(f"{path.relative_to(root)}: {reason}" for path, reason in broken.items())
        raise NcsnxError(f"{root}: {len(broken):,} of the images can't be used; mend or remove them: {listed}")


class _BrokenError(Exception):
    """A picture that can't be used, and why."""


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture; whatever goes wrong in the block is the picture's fault, and a _BrokenError that says what."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tags and palettes, which leave the pixels as they are
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                if picture.mode in ("I", "F") or ";" in picture.mode:
                    raise ValueError(f"it has more than 8 bits a channel (mode {picture.mode})")
                yield picture
    except UnidentifiedImageError as error:
        raise _BrokenError(f"isn't a picture of a known kind ({', '.join(_FORMATS)})") from error
    except Exception as error:  # Pillow raises almost anything for a damaged file
        raise _BrokenError(str(error) or type(error).__name__) from error


def _pixels(path: Path, mode: str) -> Tensor:
    """(C, H, W) uint8: the picture in the mode L (one channel) or RGB."""
    with _opened(path) as picture:
        values = np.array(picture.convert(mode))
    return torch.from_numpy(values).unsqueeze(0) if mode == "L" else torch.from_numpy(values).permute(2, 0, 1)
