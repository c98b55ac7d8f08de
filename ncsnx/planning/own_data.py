"""A first look at a person's own images: the data set that describes them, with the size and channels they have."""

import os
from pathlib import Path
from typing import Literal

import attrs
import numpy as np
import torch
from safetensors import safe_open

from ncsnx.config.data import Arrays, Images, OwnData, Packed
from ncsnx.data.arrays import LABELS, StoredArray
from ncsnx.data.dataset import Dataset
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.own_images import open_images
from ncsnx.data.packed import PackedFile, is_packed
from ncsnx.data.scan import Scan, scan_of, sound_files
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.planning.proposal import fitting_size
from ncsnx.work import Work, unheard

USUAL_SIZE = 64
"""Pictures are made no larger than this unasked: the largest size that is trained in days rather than weeks."""
_SMALL_SHARE = 0.1  # of the pictures may be smaller than the size that is chosen
_BLOCK = 64
_SUFFIXES = (".npy", ".npz", ".safetensors")


def look_at(
    path: Path, *, size: int | None = None, on_error: Literal["refuse", "skip"] = "refuse", work: Work | None = None
) -> OwnData:
    """The data set that a folder or zip of pictures, a file of arrays or a packed file makes.

    size: of the images, in pixels; by default that of the pictures, at most 64, or all of what arrays and packed files
    hold. Raises NcsnxError for what can't be read, and naming every broken picture unless they are to be skipped;
    UsageError for a size that doesn't suit the networks or that the file doesn't hold.
    """
    work = work or Work()
    if path.is_file() and is_packed(path):
        header = PackedFile.open(path).header
        image_size, crop = _within(header.size, size)
        return Packed(path=written(path), image_size=image_size, random_crop=crop, channels=header.channels)
    if path.suffix.lower() in _SUFFIXES:
        return _arrays(path, size, work)
    return _pictures(path, size, on_error, work)


def written(path: Path) -> str:
    """A path as an experiment names it: relative to the current folder if it is inside, else absolute."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (resolve would follow links, which may change)
    inside = str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
    text = f"./{inside}" if inside.startswith("~") else inside  # a ~ would be taken for a home
    if not text.isprintable():
        raise NcsnxError(f"{text!a}: an experiment can't name this path, which isn't printable text; rename it")
    return text


def _pictures(path: Path, size: int | None, on_error: Literal["refuse", "skip"], work: Work) -> Images:
    files = ImageFiles.open(path)
    scan = scan_of(files, work)
    sound_files(files, scan, on_error, attrs.evolve(work, warning=unheard))  # they are told of when the set is opened
    image_size = fitting_size(min(USUAL_SIZE, _usual_side(scan))) if size is None else size
    data = Images(root=written(path), image_size=image_size, channels=3, on_error=on_error if scan.broken else "refuse")
    if scan.grey == scan.sound or _all_grey(attrs.evolve(data, held_out=0.0), work):
        return attrs.evolve(data, channels=1)
    return data


def _usual_side(scan: Scan) -> int:
    """The short side that nine in ten of the pictures have at least."""
    smaller = 0
    for side, count in sorted(scan.short_sides.items()):
        smaller += count
        if smaller > _SMALL_SHARE * scan.sound:
            return side
    raise AssertionError("sound_files lets no empty set pass")


def _all_grey(data: Images, work: Work) -> bool:
    """Whether no picture has a colour, whatever mode it is stored in."""
    pictures: Dataset = open_images(data, Path(), attrs.evolve(work, warning=unheard)).train
    with work.progress("looking for colours", total=len(pictures), unit="pictures") as advance:
        for start in range(0, len(pictures), _BLOCK):
            work.check_stop()
            pixels = pictures.read(torch.arange(start, min(start + _BLOCK, len(pictures)))).pixels
            if bool((pixels != pixels[:, :1]).any()):
                return False
            advance(len(pixels))
    return True


def _within(stored: int, wanted: int | None) -> tuple[int, int | None]:
    """The size of images that are cut from stored ones, and the size to cut them from where that is larger."""
    size = fitting_size(stored) if wanted is None else wanted
    if size > stored:
        raise UsageError(f"--size {size}: the images have {stored} pixels a side, and arrays aren't enlarged")
    return size, stored if stored > size else None


def _arrays(path: Path, size: int | None, work: Work) -> Arrays:
    array, name = _only_array(path)
    match array.shape:
        case (_, height, width) if height == width:
            channels, stored = 1, height
        case (_, first, height, width) if height == width:
            channels, stored = first, height
        case (_, height, width, last) if height == width:
            channels, stored = last, height
        case _:
            shape = "×".join(map(str, array.shape))
            raise NcsnxError(f"{path}: expected square images, N×C×H×W or N×H×W(×C), found {shape}")
    image_size, crop = _within(stored, size)
    low, high = _range(array, work)
    return Arrays(
        path=written(path), image_size=image_size, random_crop=crop, channels=channels, low=low, high=high, array=name
    )


def _only_array(path: Path) -> tuple[StoredArray, str | None]:
    """The one array of images in a file, and its name where the file has several."""
    try:
        if path.suffix.lower() == ".npy":
            return StoredArray(path, ".npy", None), None
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                names = list(arrays.files)
        else:
            with safe_open(path, framework="pt") as arrays:
                names = list(arrays.keys())
    except Exception as error:
        raise NcsnxError(f"{path}: can't be read as arrays: {' '.join(str(error).split())}") from error
    images = [name for name in names if name != LABELS]
    if len(images) != 1:
        raise NcsnxError(f"{path}: expected one array of images, found {', '.join(images) or 'none'}")
    return StoredArray(path, ".npz" if path.suffix.lower() == ".npz" else "safetensors", images[0]), None


def _range(array: StoredArray, work: Work) -> tuple[float, float]:
    """Black and white: 0 and 255 for 8 bits; else the usual range that the values lie in, or their own."""
    least, most, count, is_bytes = float("inf"), float("-inf"), array.shape[0], False
    with work.progress("looking at the values", total=count, unit="images") as advance:
        for start in range(0, count, _BLOCK):
            work.check_stop()
            values = array.block(start, min(start + _BLOCK, count))
            is_bytes = values.dtype == torch.uint8
            least, most = min(least, float(values.min())), max(most, float(values.max()))
            advance(len(values))
    if is_bytes and most > 1:
        return 0.0, 255.0
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0)):
        if low <= least and most <= high:
            return low, high
    if not least < most < float("inf"):
        raise NcsnxError(f"{array.title}: expected finite numbers that differ, found {least:g} to {most:g}")
    return least, most
