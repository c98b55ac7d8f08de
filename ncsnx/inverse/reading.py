"""Pictures that tasks are given: PNGs and the like, and numbers in .npy files, of any number of channels."""

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.config.data import Arrays, Data, Packed
from ncsnx.data.build import data_folder
from ncsnx.data.decoding import SUFFIXES, as_array, decode, is_grey
from ncsnx.data.packed import PackedFile
from ncsnx.data.places import own_path, require_own
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.runs.process import in_utf8
from ncsnx.runs.source import Source

NUMBERS = ".npy"
NUMPY_MAGIC = b"\x93NUMPY"
_WHITE = (255, 255, 255)

ValueRange = Callable[[], tuple[float, float]]
"""The values that are black and white, asked where numbers are read: where they aren't known, it raises NcsnxError."""


def unit_range() -> tuple[float, float]:
    """0 and 1."""
    return 0.0, 1.0


def value_range(data: Data, folder: Path | str | None = None, source: Source | None = None) -> tuple[float, float]:
    """The values of a model's data that are black and white.

    Those that arrays declare, those that a packed file holds, and 0 and 1 of all other data. folder: the data folder,
    by default NCSNX_DATA, else ./data. source: the run or exported model, on whose data a packed file must be. Raises
    NcsnxError where a packed file isn't there, or is another.
    """
    if isinstance(data, Arrays):
        return data.low, data.high
    if not isinstance(data, Packed):
        return unit_range()
    try:
        header = _packed(data, data_folder(None if folder is None else Path(folder)), source).header
    except NcsnxError as error:
        raise NcsnxError(
            "which values of the data are black and white is written in the packed data set, which can't be used: "
            f"{error}. Name its folder with --data DIR, add the two values to a .npz as the array range, or give "
            "pictures as PNGs"
        ) from error
    return header.low, header.high


def range_of(data: Data, folder: Path | None, source: Source) -> ValueRange:
    """`value_range`, looked up when it is first asked."""
    return cache(lambda: value_range(data, folder, source))


def _packed(data: Packed, folder: Path, source: Source | None) -> PackedFile:
    fingerprint = None if source is None else source.data_fingerprint()
    if source is not None:
        require_own(data, fingerprint, source.path)
    file = PackedFile.open(own_path(data.path, folder))
    if fingerprint not in (None, file.fingerprint):
        raise NcsnxError(f"{file.path} isn't the file that the model was trained on")
    return file


@attrs.frozen(eq=False)
class Pictures:
    """Pictures of one size, from a file or a folder."""

    names: tuple[str, ...]
    pixels: Tensor
    """(P, C, H, W) float64; black is 0 and white 1."""


def read_pictures(
    path: Path, channels: int, size: tuple[int, int] | None, what: str, values: ValueRange = unit_range
) -> Pictures:
    """The picture, or all pictures of a folder by name, with so many channels.

    size: their height and width; None: that of the first. what: they are, for messages, such as 'a picture'. values:
    black and white of numbers in .npy files. Raises NcsnxError for what can't be read, or is of another size.
    """
    names: list[str] = []
    found: list[Tensor] = []
    for file in picture_files(path):
        content, name = read_file(file), in_utf8(file)
        if content.startswith(NUMPY_MAGIC) or file.suffix.lower() == NUMBERS:
            pixels = _of_numbers(content, name, channels, what, values)
        else:
            pixels = _of_picture(content, name, channels, what)
        expected = size or tuple(found[0].shape[1:] if found else pixels.shape[1:])
        if tuple(pixels.shape[1:]) != expected:
            raise NcsnxError(
                f"{name}: expected {what} of {expected[0]}×{expected[1]} pixels (height × width), found "
                f"{pixels.shape[1]}×{pixels.shape[2]}; resize or crop it first"
            )
        names.append(in_utf8(Path(file.name)))
        found.append(pixels)
    return Pictures(tuple(names), torch.stack(found))


def picture_files(path: Path) -> Sequence[Path]:
    """The file itself, or the pictures in the folder, by name. Raises NcsnxError where there is none."""
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


def read_file(path: Path) -> bytes:
    """Its content. Raises NcsnxError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def in_range(numbers: Tensor, values: tuple[float, float], name: str) -> Tensor:
    """Numbers float64, black 0 and white 1. Raises NcsnxError where one is further from both than they are apart."""
    black, white = values
    scaled = (numbers - black) / (white - black)
    if not bool(torch.isfinite(scaled).all()):
        raise NcsnxError(f"{name}: holds values that aren't finite numbers; replace them")
    least, most = float(numbers.min()), float(numbers.max())
    if float(scaled.min()) < -1 or float(scaled.max()) > 2:
        raise NcsnxError(
            f"{name}: expected values from {black:g} (black) to {white:g} (white), as the model's data have them; "
            f"found some from {least:.6g} to {most:.6g}"
        )
    return scaled


def _of_picture(content: bytes, name: str, channels: int, what: str) -> Tensor:
    """(C, H, W) float64 in [0, 1] of a PNG or the like, which are grey or coloured."""
    image = decode(content, name)
    if channels not in (1, 3):
        raise NcsnxError(
            f"{name}: expected {what} of {counted(channels, 'channel')}, and a picture file is read as grey or as "
            f"colours; give a {NUMBERS} of H×W×{channels} numbers"
        )
    if channels == 1 and not is_grey(image):
        raise NcsnxError(f"{name}: expected {what} in grey, found colours")
    pixels = torch.from_numpy(as_array(image, channels, _WHITE).copy()).double() / 255
    return pixels.view(image.height, image.width, channels).permute(2, 0, 1)


def _of_numbers(content: bytes, name: str, channels: int, what: str, values: ValueRange) -> Tensor:
    """(C, H, W) float64, black 0 and white 1, of a .npy."""
    form = "H×W or H×W×1" if channels == 1 else f"H×W×{channels}"
    try:
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # numpy raises almost anything for a damaged file
        reason = "holds Python objects, which are never unpickled" if "Object" in str(error) else "is damaged"
        raise NcsnxError(f"{name}: expected a {NUMBERS} of {form} numbers; it {reason}") from error
    fits = array.shape[2:] == (channels,) if array.ndim == 3 else array.ndim == 2 and channels == 1
    if array.dtype.kind not in "buif" or not fits or array.size == 0:
        raise NcsnxError(
            f"{name}: expected {what} as {form} numbers, found {array.dtype} {'×'.join(map(str, array.shape))}"
        )
    with np.errstate(all="ignore"):  # what overflows is infinite, and refused as such
        numbers = torch.from_numpy(array.astype(np.float64).reshape(*array.shape[:2], channels))
    return in_range(numbers, values(), name).permute(2, 0, 1)


def _unreadable(path: Path, error: OSError) -> NcsnxError:
    return NcsnxError(f"can't read {in_utf8(path)}: {error.strerror or error}; is that the file's name?")
