"""Input pictures of tasks: image files such as PNG, and numbers in .npy files with any number of channels."""

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.data.decoding import SUFFIXES, as_array, decode, fitted, flattened, is_grey, opened_picture
from ncsnx.data.transforms import as_channels
from ncsnx.errors import Hint, NcsnxError
from ncsnx.inverse.lazy_stack import LazyStack
from ncsnx.inverse.values import UNIT, ValueRange, non_finite_in_words
from ncsnx.quantities import counted
from ncsnx.spelling import argument
from ncsnx.storage import reading
from ncsnx.storage.array_files import COMPLEX, NPY_MAGIC, REAL, ArrayHeader, open_array_file
from ncsnx.storage.process import in_utf8

NUMBERS = ".npy"
_WHITE = (255, 255, 255)
_HELD_BYTES = 2**27  # of decoded pictures: a folder beyond that is read again where a picture is needed
_FILE_BYTES, _BYTES_PER_PIXEL = 2**26, 64  # largest file of a picture: for metadata, and per pixel


@attrs.frozen(eq=False)
class Pictures:
    """Pictures of one size, from a file or a folder."""

    names: tuple[str, ...]
    stack: LazyStack
    """(P, C, H, W) float64; 0 is black, 1 is white."""

    @property
    def pixels(self) -> Tensor:
        """The whole stack in memory."""
        return self.stack[:]


@attrs.frozen
class _Size:
    """Required height and width of pictures."""

    what: str
    """Kind of picture, for messages."""
    pixels: tuple[int, int]
    """Height and width in pixels."""
    smaller: bool
    """Whether pictures must be smaller than that instead of equal."""
    fit: bool | None = None
    """Whether image files of other sizes are resized and cropped; None: that isn't offered."""

    def require(self, name: str, height: int, width: int, *, turned: bool = False, hints: Sequence[Hint] = ()) -> None:
        """Raises NcsnxError for another size. turned: height and width may be exchanged."""
        if self.admits(height, width) or (turned and self.admits(width, height)):
            return
        high, wide = self.pixels
        raise NcsnxError(
            f"{name}: expected {self.what} {'smaller than' if self.smaller else 'of'} {high}×{wide} pixels (height × "
            f"width), found {height}×{width}; resize or crop it first",
            *hints,
        )

    def admits(self, height: int, width: int) -> bool:
        """Whether a picture may have this size."""
        high, wide = self.pixels
        return (height <= high and width <= wide) and self.smaller != ((height, width) == self.pixels)


def read_pictures(
    path: Path,
    channels: int,
    size: tuple[int, int],
    what: str,
    values: ValueRange = UNIT,
    *,
    smaller: bool = False,
    fit: bool | None = None,
) -> Pictures:
    """Reads a picture, or all pictures of a folder in the order of their names.

    channels, size: number of channels, and (height, width); with `smaller`, pictures are smaller than that, all of one
    size. fit: resize image files of other sizes until they just cover this one, and crop the middle, as training images
    are; False offers that in the error, None does not. what: kind of picture for messages, such as 'a picture'. values:
    black and white of numbers in .npy files, or an `ValueRange`. A .npy that is named itself may hold several pictures,
    (P, H, W) or (P, H, W, C); what can be read as one picture is one. Raises NcsnxError for files that can't be read or
    have another size; the size is checked before pixels are read. All files are checked at once; 128 MiB of pictures
    are held, and others are read again where they are needed.
    """
    files, own = _picture_files(path), values
    digests: list[bytes] = []
    count = None if path.is_dir() or not _is_numbers(path) else _stacked(path, channels, _Size(what, size, smaller))
    if count is not None:
        files = [path] * count

    def pixels_of(index: int, wanted: _Size) -> Tensor:
        file = files[index]
        if _is_numbers(file):
            return _of_numbers(file, channels, wanted, own, None if count is None else index)
        if not own.is_bounded:
            raise NcsnxError(
                f"{in_utf8(file)}: image files have values from black to white, and this model's data is unbounded; "
                f"give a {NUMBERS} in the data's own values, as {_form(channels, own)}"
            )
        return _of_picture(_content(file, wanted), in_utf8(file), channels, wanted)

    first = pixels_of(0, _Size(what, size, smaller, fit))
    same = _Size(what, (first.shape[1], first.shape[2]), smaller=False, fit=fit)

    @lru_cache(maxsize=max(1, _HELD_BYTES // first.nbytes))
    def pixels_at(index: int) -> Tensor:
        pixels = first if index == 0 and not digests else pixels_of(index, same)
        digest = hashlib.sha256(pixels.numpy().tobytes()).digest()
        if index == len(digests):
            digests.append(digest)
        elif digest != digests[index]:
            raise NcsnxError(f"{in_utf8(files[index])}: was changed while it was used; repeat the command")
        return pixels

    for index in range(len(files)):
        pixels_at(index)
    names = [in_utf8(Path(file.name)) for file in files]
    if count is not None:
        names = [f"{name}[{place}]" for place, name in enumerate(names)]
    return Pictures(tuple(names), LazyStack(len(files), pixels_at))


def _picture_files(path: Path) -> Sequence[Path]:
    """The file itself, or the pictures in the folder, sorted by name. Raises NcsnxError if there are none."""
    kinds = (*SUFFIXES, NUMBERS)
    try:
        if not path.is_dir():
            return [path]
        found = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in kinds and not file.name.startswith(".") and not file.is_dir()
        )
    except OSError as error:
        raise _unreadable(path, error) from error
    if not found:
        raise NcsnxError(
            f"{in_utf8(path)}: expected a picture, or a folder of pictures ({', '.join(kinds)}), found none"
        )
    return found


def in_range(numbers: Tensor, values: ValueRange, name: str) -> Tensor:
    """Numbers scaled to float64 with black 0 and white 1. Raises NcsnxError for bounded results outside [−1, 2]."""
    black, white = values.ends
    scaled = (numbers - black) / (white - black)
    if (wrong := non_finite_in_words(scaled)) is not None:
        raise NcsnxError(f"{name}: {wrong}")
    least, most = float(numbers.min()), float(numbers.max())
    if values.is_bounded and (float(scaled.min()) < -1 or float(scaled.max()) > 2):
        raise NcsnxError(
            f"{name}: expected values from {black:g} (black) to {white:g} (white), as in the model's data; found "
            f"{least:.6g} to {most:.6g}"
        )
    return scaled


def _read(path: Path, most: int) -> tuple[bytes, int]:
    """The first `most` bytes of a regular file, and its size in bytes. Raises NcsnxError."""
    try:
        with reading.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            return file.read(min(most, size)), size
    except OSError as error:
        raise _unreadable(path, error) from error


def _content(path: Path, size: _Size) -> bytes:
    """The bytes of a picture's file. Raises NcsnxError for unreadable files and files too large for this size."""
    height, width = size.pixels
    most = _FILE_BYTES + _BYTES_PER_PIXEL * height * width
    content, found = _read(path, most)
    if found > most:
        raise NcsnxError(
            f"{in_utf8(path)}: has {counted(found, 'byte')}, but {size.what} of {height}×{width} pixels has at most "
            f"{most:,}"
        )
    return content


def _of_picture(content: bytes, name: str, channels: int, size: _Size) -> Tensor:
    """(C, H, W) float64 in [0, 1] of an image file, grey or coloured."""
    with opened_picture(content, name) as picture:
        width, height = picture.size
    hints = [] if size.fit is None else [Hint("resize and crop it", adds=argument("fit", True))]
    if not size.fit:
        size.require(name, height, width, turned=True, hints=hints)
    image = decode(content, name)
    if not size.fit:
        size.require(name, image.height, image.width, hints=hints)
    if channels not in (1, 3):
        raise NcsnxError(
            f"{name}: expected {size.what} of {counted(channels, 'channel')}, but image files have 1 or 3; "
            f"give a {NUMBERS} of H×W×{channels} numbers"
        )
    if channels == 1 and not is_grey(image):
        raise NcsnxError(f"{name}: expected {size.what} in grey, found colours")
    if size.fit:
        image = fitted(flattened(image, channels, _WHITE), size.pixels)
    pixels = torch.from_numpy(as_array(image, channels, _WHITE).copy()).double() / 255
    return pixels.view(image.height, image.width, channels).permute(2, 0, 1)


def _is_numbers(path: Path) -> bool:
    return _read(path, len(NPY_MAGIC))[0] == NPY_MAGIC or path.suffix.lower() == NUMBERS


def _form(channels: int, own: ValueRange) -> str:
    """The numbers of one picture in words."""
    if own.is_complex:
        pairs = channels // 2
        return f"complex {'H×W' if pairs == 1 else f'H×W×{pairs}'}, or real H×W×{channels},"
    return "H×W or H×W×1" if channels == 1 else f"H×W×{channels}"


def _channels_fit(header: ArrayHeader, axes: tuple[int, ...], channels: int) -> bool:
    """Whether an array with these axes behind height and width is of pictures with this number of channels."""
    each = channels // 2 if header.dtype.kind in COMPLEX else channels
    return axes == (each,) or (axes == () and each == 1)


def _stacked(path: Path, channels: int, size: _Size) -> int | None:
    """The number of pictures (P, H, W) or (P, H, W, C) in a .npy; None for one that isn't such a stack.

    Raises NcsnxError for a stack of another size.
    """
    file = open_array_file(path)
    if file.names is not None:
        return None
    header = file.header()
    shape = header.shape
    is_right, is_one = len(shape) > 1 and size.admits(*shape[:2]), _channels_fit(header, shape[2:], channels)
    if (is_one and is_right) or len(shape) not in (3, 4) or 0 in shape:
        return None
    if not _channels_fit(header, shape[3:], channels):
        return None
    if not (is_one or is_right):  # else a wrong size is that of one picture
        size.require(in_utf8(path), *shape[1:3])
    return shape[0] if size.admits(*shape[1:3]) else None


def _of_numbers(path: Path, channels: int, size: _Size, own: ValueRange, place: int | None) -> Tensor:
    """(C, H, W) float64 of a .npy file; 0 is black, 1 is white.

    place: index of the picture in a stack; None: the file is one picture. Complex numbers become the channels real and
    imaginary part.
    """
    name, form, file = in_utf8(path), _form(channels, own), open_array_file(path)
    if file.names is not None:
        raise NcsnxError(f"{name}: expected a {NUMBERS} of {form} numbers, found a .npz; save it with numpy.save")
    header = file.header()
    shape = header.shape if place is None else header.shape[1:]
    kinds = REAL + COMPLEX if own.is_complex else REAL
    fits = len(shape) > 1 and 0 not in shape and _channels_fit(header, shape[2:], channels)
    if header.dtype.kind not in kinds or not fits:
        found = f"{header.dtype} {'×'.join(map(str, shape))}"
        real = ", since the model's data is real" if header.dtype.kind in COMPLEX and not own.is_complex else ""
        raise NcsnxError(f"{name}: expected {size.what} as {form} numbers{real}, found {found}")
    size.require(name, *shape[:2])
    values = file.read() if place is None else np.array(file.mapped()[(place,)])
    with np.errstate(all="ignore"):  # overflow gives infinity, which is refused below
        wide = values.astype(np.complex128 if header.dtype.kind in COMPLEX else np.float64)
    numbers = as_channels(torch.from_numpy(wide).reshape(1, *shape[:2], -1).permute(0, 3, 1, 2))[0]
    return in_range(numbers, own, name)


def _unreadable(path: Path, error: OSError) -> NcsnxError:
    return NcsnxError(f"cannot read {in_utf8(path)}: {error.strerror or error}; check the file's name")
