"""Input pictures of tasks: image files such as PNG, and numbers in .npy files with any number of channels."""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.config.data_sets import Arrays, Data, Packed
from ncsnx.data.packed.packed_file import PackedFile
from ncsnx.data.pictures.decoding import SUFFIXES, as_array, decode, is_grey, opened_picture
from ncsnx.data.places import data_folder, own_path, require_own
from ncsnx.errors import Hint, NcsnxError
from ncsnx.inverse.lazy_stack import LazyStack
from ncsnx.quantities import counted
from ncsnx.runs.model_source import Source
from ncsnx.spelling import A_DIR, argument
from ncsnx.storage import reading
from ncsnx.storage.numpy_files import NPY_MAGIC, REAL, NumpyFile
from ncsnx.storage.process import in_utf8

NUMBERS = ".npy"
_WHITE = (255, 255, 255)
_HELD_BYTES = 2**27  # of decoded pictures: a folder beyond that is read again where a picture is needed
_FILE_BYTES, _BYTES_PER_PIXEL = 2**26, 64  # largest file of a picture: for metadata, and per pixel

ValueRange = Callable[[], tuple[float, float]]
"""Returns the values of black and white, when numbers are read; raises NcsnxError if they aren't known."""


def unit_range() -> tuple[float, float]:
    """0 and 1."""
    return 0.0, 1.0


def value_range(data: Data, folder: Path | str | None = None, source: Source | None = None) -> tuple[float, float]:
    """The values of black and white in a model's data.

    Arrays declare them, packed files contain them, and all other data have 0 and 1. folder: the data folder; default:
    NCSNX_DATA, else ./data. source: the run or exported model; a packed file must be the one it was trained on. Raises
    NcsnxError for a packed file that is missing or another one.
    """
    if isinstance(data, Arrays):
        return data.low, data.high
    if not isinstance(data, Packed):
        return unit_range()
    try:
        header = _packed(data, data_folder(None if folder is None else Path(folder)), source).header
    except NcsnxError as error:
        raise NcsnxError(
            f"the values of black and white are in the packed data set, which cannot be used: {error.message}",
            Hint("say where it is", adds=argument("data", A_DIR)),
            Hint("or add the two values to a .npz as the array range, or give pictures as PNGs"),
        ) from error
    return header.low, header.high


def range_of(data: Data, folder: Path | None, source: Source) -> ValueRange:
    """`value_range`, looked up at the first call and cached."""
    return cache(lambda: value_range(data, folder, source))


def _packed(data: Packed, folder: Path, source: Source | None) -> PackedFile:
    fingerprint = None if source is None else source.data_fingerprint()
    if source is not None:
        require_own(data, fingerprint, source.path)
    file = PackedFile.open(own_path(data.path, folder))
    if fingerprint not in (None, file.fingerprint):
        raise NcsnxError(f"{file.path} is not the file that the model was trained on")
    return file


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

    def require(self, name: str, height: int, width: int, *, turned: bool = False) -> None:
        """Raises NcsnxError for another size. turned: height and width may be exchanged."""
        if self._fits(height, width) or (turned and self._fits(width, height)):
            return
        high, wide = self.pixels
        raise NcsnxError(
            f"{name}: expected {self.what} {'smaller than' if self.smaller else 'of'} {high}×{wide} pixels (height × "
            f"width), found {height}×{width}; resize or crop it first"
        )

    def _fits(self, height: int, width: int) -> bool:
        high, wide = self.pixels
        return (height <= high and width <= wide) and self.smaller != ((height, width) == self.pixels)


def read_pictures(
    path: Path,
    channels: int,
    size: tuple[int, int],
    what: str,
    values: ValueRange = unit_range,
    *,
    smaller: bool = False,
) -> Pictures:
    """Reads a picture, or all pictures of a folder in the order of their names.

    channels, size: number of channels, and (height, width); with `smaller`, pictures are smaller than that, all of one
    size. what: kind of picture for messages, such as 'a picture'. values: black and white of numbers in .npy files.
    Raises NcsnxError for files that can't be read or have another size; the size is checked before pixels are read.
    All files are checked at once; 128 MiB of pictures are held, and others are read again where they are needed.
    """
    files = _picture_files(path)
    digests: list[bytes] = []

    def pixels_of(file: Path, wanted: _Size) -> Tensor:
        name = in_utf8(file)
        if _read(file, len(NPY_MAGIC))[0] == NPY_MAGIC or file.suffix.lower() == NUMBERS:
            return _of_numbers(file, name, channels, wanted, values)
        return _of_picture(_content(file, wanted), name, channels, wanted)

    first = pixels_of(files[0], _Size(what, size, smaller))
    same = _Size(what, (first.shape[1], first.shape[2]), smaller=False)

    @lru_cache(maxsize=max(1, _HELD_BYTES // first.nbytes))
    def pixels_at(index: int) -> Tensor:
        pixels = first if index == 0 and not digests else pixels_of(files[index], same)
        digest = hashlib.sha256(pixels.numpy().tobytes()).digest()
        if index == len(digests):
            digests.append(digest)
        elif digest != digests[index]:
            raise NcsnxError(f"{in_utf8(files[index])}: was changed while it was used; repeat the command")
        return pixels

    for index in range(len(files)):
        pixels_at(index)
    return Pictures(tuple(in_utf8(Path(file.name)) for file in files), LazyStack(len(files), pixels_at))


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


def in_range(numbers: Tensor, values: tuple[float, float], name: str) -> Tensor:
    """Numbers scaled to float64 with black 0 and white 1. Raises NcsnxError for results outside [−1, 2]."""
    black, white = values
    scaled = (numbers - black) / (white - black)
    if not bool(torch.isfinite(scaled).all()):
        raise NcsnxError(f"{name}: contains NaN or infinity; replace these values")
    least, most = float(numbers.min()), float(numbers.max())
    if float(scaled.min()) < -1 or float(scaled.max()) > 2:
        raise NcsnxError(
            f"{name}: expected values from {black:g} (black) to {white:g} (white), as in the model's data; found "
            f"{least:.6g} to {most:.6g}"
        )
    return scaled


def _read(path: Path, most: int) -> tuple[bytes, int]:
    """The first `most` bytes of a regular file, and its size in bytes. Raises NcsnxError."""
    try:
        with reading.opened(path, follows_links=True) as file:
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
    size.require(name, height, width, turned=True)
    image = decode(content, name)
    size.require(name, image.height, image.width)
    if channels not in (1, 3):
        raise NcsnxError(
            f"{name}: expected {size.what} of {counted(channels, 'channel')}, but image files have 1 or 3; "
            f"give a {NUMBERS} of H×W×{channels} numbers"
        )
    if channels == 1 and not is_grey(image):
        raise NcsnxError(f"{name}: expected {size.what} in grey, found colours")
    pixels = torch.from_numpy(as_array(image, channels, _WHITE).copy()).double() / 255
    return pixels.view(image.height, image.width, channels).permute(2, 0, 1)


def _of_numbers(path: Path, name: str, channels: int, size: _Size, values: ValueRange) -> Tensor:
    """(C, H, W) float64 of a .npy file; 0 is black, 1 is white."""
    form = "H×W or H×W×1" if channels == 1 else f"H×W×{channels}"
    file = NumpyFile.open(path)
    if file.names is not None:
        raise NcsnxError(f"{name}: expected a {NUMBERS} of {form} numbers, found a .npz; save it with numpy.save")
    header = file.header()
    shape = header.shape
    fits = shape[2:] == (channels,) if len(shape) == 3 else len(shape) == 2 and channels == 1
    if header.dtype.kind not in REAL or not fits or 0 in shape:
        found = f"{header.dtype} {'×'.join(map(str, shape))}"
        raise NcsnxError(f"{name}: expected {size.what} as {form} numbers, found {found}")
    size.require(name, *shape[:2])
    with np.errstate(all="ignore"):  # overflow gives infinity, which is refused below
        numbers = torch.from_numpy(file.read().astype(np.float64).reshape(*shape[:2], channels))
    return in_range(numbers, values(), name).permute(2, 0, 1)


def _unreadable(path: Path, error: OSError) -> NcsnxError:
    return NcsnxError(f"cannot read {in_utf8(path)}: {error.strerror or error}; check the file's name")
