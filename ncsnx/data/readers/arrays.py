"""Images as arrays, from `.npy`, `.npz` or safetensors: any number of channels, with a declared range of values.

The layouts N×C×H×W, N×H×W×C and, for one channel, N×H×W are told apart by the declared channels and size. Values keep
their type if torch computes with it: 8-bit and signed integers stay, uint16 becomes int32, uint32 int64, and floating-
point numbers float32. Files are memory-mapped and read image by image, except `.npz`, which every reading
process unpacks completely. Nothing is unpickled: arrays of Python objects are refused.
"""

import math
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.config.data_sets import LARGEST_SIDE, MOST_CHANNELS, Arrays, Packed
from ncsnx.config.image_sizes import ImageSize, size_as_words
from ncsnx.data.dataset import (
    NO_LABEL,
    Dataset,
    Splits,
    StoredImages,
    held_out_by_hash,
    numbered_classes,
    require_training_images,
)
from ncsnx.data.places import existing_path, fingerprint_of_files
from ncsnx.data.registry import data_set
from ncsnx.data.transforms import as_channels, require_declared
from ncsnx.data.value_statistics import check_values, require_valid
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, product
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage.array_files import StoredArray, open_array_file
from ncsnx.storage.process import SHARE, available_memory
from ncsnx.work import Work

LABELS = "labels"
"""Name of the array of labels, in files of several arrays."""
_Layout = Literal["N×C×H×W", "N×H×W×C", "N×H×W"]

_BYTES_PER_IMAGE = 256  # of memory for its label, index and split
_READ_AS = {
    **{name: name for name in ("uint8", "int8", "int16", "int32", "int64", "float32", "complex64")},
    "bool": "uint8",
    "uint16": "int32",
    "uint32": "int64",
    "float16": "float32",
    "float64": "float32",
    "complex128": "complex64",
}
"""NumPy's type in the file → type that the reader returns, with which torch computes on every device."""


@attrs.frozen(eq=False)
class ArrayImages(Dataset):
    """One split of an array of images."""

    array: StoredArray
    data: Arrays | Packed
    layout: _Layout
    value_range: tuple[float, float]
    labels: Tensor
    """(n,) int64."""
    ids: Tensor
    """(n,) int64."""
    places: Tensor
    """(n,) int64: indices in the array."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.data.channels, *self.data.stored_size

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`. Raises NcsnxError for values that are NaN, infinite or out of the declared range."""
        ids = self.ids[indices]
        values = as_tensor(self.array.rows(self.places[indices].tolist()))
        if self.layout == "N×H×W×C":
            values = values.permute(0, 3, 1, 2).contiguous()
        if self.layout == "N×H×W":
            values = values[:, None]
        pixels = as_channels(values)
        if isinstance(self.data, Arrays):  # packed images have been checked
            require_valid(pixels, ids, self.data, lambda index: f"{self.array.title}: image {index:,}")
        return StoredImages(pixels, self.labels[indices], ids)

    def subset(self, chosen: Tensor) -> "ArrayImages":
        """The images selected by `chosen`, (n,) bool."""
        return attrs.evolve(self, labels=self.labels[chosen], ids=self.ids[chosen], places=self.places[chosen])


@data_set(Arrays)
def open_arrays(data: Arrays, folder: Path, work: Work) -> Splits:
    """The images in `data.path`, split. folder: the data folder.

    Raises DataMissingError for a missing file; NcsnxError for other arrays, and for a sample with values that are NaN,
    infinite or outside the declared range.
    """
    array = open_array(existing_path(data.path, folder), data.array)
    title, count, is_complex = array.title, array.shape[0], array.is_complex
    forms = usual_forms(array.shape) or [(data.channels, 1)]
    channels = forms[0][0] * (2 if is_complex else 1)
    require_declared(title, data, is_complex=is_complex, type_name=str(array.dtype), channels=channels)
    labels, ids, layout = _labels(array, count), torch.arange(count), _layout(array, data, work)
    whole = ArrayImages(array, data, layout, (data.low, data.high), labels, ids, places=ids)
    check_values(whole, data, title, work)
    held_out = held_out_by_hash([str(index) for index in range(count)], data.held_out)
    require_training_images(title, held_out)
    mark = fingerprint_of_files(array.file.path.parent, [array.file.path])
    return Splits(whole.subset(~held_out), whole.subset(held_out), mark, numbered_classes(labels))


def open_array(path: Path, name: str | None = None) -> StoredArray:
    """The array of images in a file. name: its name, by default that of the only array other than the labels.

    Raises NcsnxError if that isn't exactly one array of numbers.
    """
    file = open_array_file(path)
    choose = f"data.array=NAME or {argument('array', A_NAME)}"
    array = file.array(file.chosen(name, "data.array", choose, ignored=LABELS))
    if array.dtype.name not in _READ_AS:
        raise NcsnxError(f"{array.title}: holds {array.dtype}, with which torch does not compute; convert it")
    if len(array.shape) == 0 or array.shape[0] == 0:
        raise NcsnxError(f"{array.title}: expected images, found {product(array.shape)}")
    require_memory_for(array.title, array.shape[0], math.prod(array.shape[1:]))
    return array


def require_memory_for(title: str, count: int, values: int) -> None:
    """Raises NcsnxError if one image of so many values, or what is kept of `count` images, doesn't fit in memory.

    Headers may declare any. title: the images, for messages.
    """
    most = available_memory() // SHARE
    if max(count * _BYTES_PER_IMAGE, values * torch.float64.itemsize) > most:
        raise NcsnxError(
            f"{title}: declares {counted(count, 'image')} of {counted(values, 'value')}, but memory here allows "
            f"only {counted(most // _BYTES_PER_IMAGE, 'image')} of {counted(most // torch.float64.itemsize, 'value')}"
        )


def as_tensor(values: NDArray[Any]) -> Tensor:
    """A copy of the values in the type of `_READ_AS`."""
    with np.errstate(over="ignore"):  # a float64 may be infinite as float32, and is refused then
        return torch.from_numpy(np.array(values, dtype=_READ_AS[values.dtype.name]))


def _layout(array: StoredArray, data: Arrays, work: Work) -> _Layout:
    size, shape = data.stored_size, array.shape
    channels = data.channels // 2 if data.is_complex else data.channels
    expected: dict[_Layout, tuple[int, ...]] = {"N×C×H×W": (channels, *size), "N×H×W×C": (*size, channels)}
    if channels == 1:
        expected["N×H×W"] = size
    fitting = [layout for layout, rest in expected.items() if shape[1:] == rest]
    if not fitting:
        forms = " or ".join(product(("N", *rest)) for rest in dict.fromkeys(expected.values()))
        raise NcsnxError(f"{array.title}: expected {forms}, found {product(shape)}{_hint(shape, data)}")
    if len(fitting) > 1 and channels > 1:
        work.warning(
            f"{array.title}: {product(shape)} is read as N×C×H×W; if it is N×H×W×C, save "
            "array.transpose(0, 3, 1, 2) instead"
        )
    return fitting[0]


def _hint(shape: tuple[int, ...], data: Arrays) -> str:
    """Advice for an array of another shape than the declared one."""
    if fitting := usual_forms(shape):
        field = "image_size" if data.random_crop is None else "random_crop"
        return "; it fits " + " or ".join(
            f"data.channels={channels * (2 if data.is_complex else 1)} data.{field}={size_as_words(size)}"
            for channels, size in fitting
        )
    return "; reshape it"


def usual_forms(shape: tuple[int, ...]) -> list[tuple[int, ImageSize]]:
    """The (channels, size) that an array of this shape most probably has: squares if they fit, else few channels."""
    forms = array_forms(shape)
    return [form for form in forms if isinstance(form[1], int)] or forms[:1]


def array_forms(shape: tuple[int, ...]) -> list[tuple[int, ImageSize]]:
    """The (channels, size) that an array of this shape could have: squares first, then rectangles of few channels."""
    forms: list[tuple[int, tuple[int, int]]] = []
    match shape:
        case (_, height, width):
            forms = [(1, (height, width))]
        case (_, first, middle, last):
            forms = [(first, (middle, last)), (last, (first, middle))]
    possible = [
        (channels, size)
        for channels, size in forms
        if 0 < channels <= MOST_CHANNELS and all(0 < side <= LARGEST_SIDE for side in size)
    ]
    squares = [(channels, size[0]) for channels, size in possible if size[0] == size[1]]
    rectangles = sorted((channels, size) for channels, size in possible if size[0] != size[1])
    return list(dict.fromkeys([*squares, *rectangles]))


def _labels(images: StoredArray, count: int) -> Tensor:
    """(count,) int64: the labels in the file of the images, NO_LABEL where it has none."""
    if LABELS not in (images.file.names or ()):
        return torch.full((count,), NO_LABEL)
    labels = images.file.array(LABELS)
    if labels.shape != (count,) or labels.dtype.kind not in "bui":
        found = product(labels.shape) if labels.shape != (count,) else labels.dtype
        raise NcsnxError(
            f"{labels.title}: expected one whole number for each of the {counted(count, 'image')}, found {found}"
        )
    return torch.from_numpy(labels.read().astype(np.int64))
