"""Images as arrays, from `.npy`, `.npz` or safetensors: any number of channels, with a declared range of values.

The layouts N×C×H×W, N×H×W×C and, for one channel, N×H×W are told apart by the declared channels and size. Values keep
their type if torch computes with it: 8-bit and signed integers stay, uint16 becomes int32, uint32 int64, and floating-
point numbers float32. Files are memory-mapped and read image by image, except compressed `.npz`, which every reading
process unpacks completely. Nothing is unpickled: arrays of Python objects are refused.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ncsnx.config.data_sets import LARGEST_SIDE, MOST_CHANNELS, Arrays
from ncsnx.config.image_sizes import ImageSize, size_as_typed
from ncsnx.data.data_set import data_set
from ncsnx.data.dataset import NO_LABEL, Splits, StoredImages, held_out_by_hash
from ncsnx.data.magnitudes import scaled_splits
from ncsnx.data.places import OWN, fingerprint_of_files, own_path
from ncsnx.data.transforms import as_channels, require_declared
from ncsnx.data.value_scan import array_key, check_values
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, product
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage.array_files import NPY_MAGIC, listed, open_array_file
from ncsnx.storage.process import SHARE, available_memory
from ncsnx.storage.reading import opened, require_whole
from ncsnx.storage.zips import ZIP_MAGIC
from ncsnx.work import Work

LABELS = "labels"
"""Name of the array of labels, in files of several arrays."""
_Layout = Literal["N×C×H×W", "N×H×W×C", "N×H×W"]
_Kind = Literal["numpy", "safetensors"]

_BYTES_PER_IMAGE = 256  # of memory for its label, index and split
_STORED = {
    torch.bool: torch.uint8,
    torch.uint8: torch.uint8,
    torch.int8: torch.int8,
    torch.int16: torch.int16,
    torch.int32: torch.int32,
    torch.int64: torch.int64,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float32,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex64,
}
"""Type in the file → type that the reader returns, with which torch computes on every device."""
_COMPLEX = ("complex64", "complex128", "C64")
_NAMES = frozenset(str(dtype).removeprefix("torch.") for dtype in _STORED)


@attrs.define(eq=False, slots=False)
class StoredArray:
    """An array in a file, opened at the first read. Picklable; each process opens the file itself."""

    path: Path
    kind: _Kind
    name: str | None
    _values: Any = attrs.field(default=None, init=False)
    _size: int = attrs.field(default=0, init=False)
    """Bytes of the file when it was mapped; 0 if the array is in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """All axes, images first. Raises NcsnxError for an unsupported type."""
        return self._header[0]

    @property
    def type_name(self) -> str:
        """Type in the file."""
        return self._header[1]

    @property
    def is_complex(self) -> bool:
        """Whether the values are complex."""
        return self.type_name in _COMPLEX

    @cached_property
    def _header(self) -> tuple[tuple[int, ...], str]:
        """(shape, type name)."""
        if self.kind == "safetensors":
            with reading(self.path), safe_open(self.path, framework="pt") as arrays:
                values = arrays.get_slice(self.name)
                return tuple(values.get_shape()), values.get_dtype()
        header = open_array_file(self.path).header(self.name)
        if header.dtype.name not in _NAMES:
            raise NcsnxError(_unknown_type(self.title, str(header.dtype)))
        return header.shape, header.dtype.name

    def rows(self, indices: list[int]) -> Tensor:
        """(n, …): entries along the first axis, in a type of `_STORED`. Raises NcsnxError for unsupported types."""
        if self.kind == "safetensors":
            return self._as_stored(
                torch.cat([self._opened[index : index + 1] for index in indices] or [self._opened[:0]])
            )
        return self._as_stored(_native(self._opened[indices]))

    def block(self, start: int, stop: int) -> Tensor:
        """(stop − start, …): as `rows`, for consecutive entries."""
        values = self._opened[start:stop]
        return self._as_stored(values if self.kind == "safetensors" else _native(values))

    def place(self, index: int) -> str:
        """The image at an index, for messages."""
        return f"image {index:,}"

    @property
    def title(self) -> str:
        """File and array name, for messages."""
        return str(self.path) if self.name is None else f"{self.path}, array {self.name}"

    @property
    def _opened(self) -> Any:
        if self._values is None:
            with reading(self.path):
                self._values = _values(self.path, self.kind, self.name)
                is_mapped = self.kind == "safetensors" or isinstance(self._values, np.memmap)
                self._size = self.path.stat().st_size if is_mapped else 0
        require_whole(self.path, self._size)
        return self._values

    def _as_stored(self, values: Tensor) -> Tensor:
        if values.dtype not in _STORED:
            raise NcsnxError(_unknown_type(self.title, str(values.dtype).removeprefix("torch.")))
        return values.to(_STORED[values.dtype])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_values": None}


@attrs.frozen(eq=False)
class ArrayImages:
    """One split of an array of images."""

    array: StoredArray
    layout: _Layout
    shape: tuple[int, int, int]
    value_range: tuple[float, float]
    labels: Tensor
    """(n,) int64."""
    ids: Tensor
    """(n,) int64: indices in the array."""

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`."""
        ids = self.ids[indices]
        values = self.array.rows(ids.tolist())
        if self.layout == "N×H×W×C":
            values = values.permute(0, 3, 1, 2).contiguous()
        if self.layout == "N×H×W":
            values = values[:, None]
        return StoredImages(as_channels(values), self.labels[indices], ids)


@data_set(Arrays, no_download=OWN)
def open_arrays(data: Arrays, folder: Path, work: Work) -> Splits:
    """The images in `data.path`, split. folder: the data folder.

    The first time, every value is checked. Raises DataMissingError for a missing file; NcsnxError for other arrays, and
    for values that are NaN, infinite or outside the declared range.
    """
    array, names = open_array(own_path(data.path, folder), data.array)
    channels = [channels * (2 if array.is_complex else 1) for channels, _ in usual_forms(array.shape)]
    require_declared(
        array.title,
        data,
        is_complex=array.is_complex,
        type_name=array.type_name,
        channels=(channels or [data.channels])[0],
    )
    layout = _layout(array, data, work)
    mark = array_fingerprint(array)
    check_values(array, data, mark, work)
    count = array.shape[0]
    labels = (
        _labels(StoredArray(array.path, array.kind, LABELS), count)
        if LABELS in names
        else torch.full((count,), NO_LABEL)
    )
    held_out = held_out_by_hash([str(index) for index in range(count)], data.held_out)
    if bool(held_out.all()):
        raise NcsnxError(f"{array.title}: all of its images ({count:,}) are held out, and none is left to train on")
    shape = (data.channels, *data.stored_size)

    def split(chosen: Tensor) -> ArrayImages:
        return ArrayImages(array, layout, shape, (data.low, data.high), labels[chosen], chosen.nonzero().flatten())

    splits = Splits(split(~held_out), split(held_out), mark)
    return scaled_splits(splits, data, array.title, [*array_key(array, mark), layout, data.held_out], work)


def open_array(path: Path, name: str | None = None) -> tuple[StoredArray, list[str]]:
    """The array of images in a file, and the names of all its arrays.

    name: name of the array, by default the only one other than the labels. Raises NcsnxError if that isn't exactly one
    array of numbers.
    """
    with reading(path):
        kind = _kind(path)
        names = _names(path, kind)
    array = StoredArray(path, kind, _chosen(path, names, name))
    if len(array.shape) == 0 or array.shape[0] == 0:
        raise NcsnxError(f"{array.title}: expected images, found {product(array.shape)}")
    require_memory_for(array.title, array.shape[0], math.prod(array.shape[1:]))
    return array, names


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


def array_fingerprint(array: StoredArray) -> str:
    """The fingerprint of an array's file."""
    return fingerprint_of_files(array.path.parent, [array.path])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors in reading an untrusted file into NcsnxErrors."""
    try:
        yield
    except OSError as error:
        raise NcsnxError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise NcsnxError(f"{path}: does not fit in memory; save it as .npy, which is read image by image") from error
    except (SafetensorError, RuntimeError) as error:  # torch raises RuntimeError if the file doesn't fit in memory
        raise NcsnxError(f"{path}: cannot be read as images: {' '.join(str(error).split())}") from error


def _kind(path: Path) -> _Kind:
    with opened(path) as file:
        begin = file.read(9)
    if begin.startswith((NPY_MAGIC, ZIP_MAGIC)):
        return "numpy"
    if path.suffix.lower() == ".safetensors" or begin[8:] == b"{":
        return "safetensors"
    found = "another format" if begin else "an empty file; get a complete copy"
    raise NcsnxError(f"{path}: expected a .npy, .npz or safetensors file, found {found}")


def _names(path: Path, kind: _Kind) -> list[str]:
    """Names of the arrays in a file; empty for a `.npy`, whose one array has no name."""
    if kind == "numpy":
        return list(open_array_file(path).names or ())
    with safe_open(path, framework="pt") as arrays:
        return list(arrays.keys())


def _values(path: Path, kind: _Kind, name: str | None) -> Any:
    if kind == "numpy":
        return open_array_file(path).mapped(name)
    try:
        with safe_open(path, framework="pt") as arrays:
            return arrays.get_slice(name)
    except (OSError, RuntimeError) as error:  # the address space is exhausted
        raise NcsnxError(
            f"{path}: {counted(path.stat().st_size, 'byte')} cannot be mapped into memory here; raise the limit "
            "(ulimit -v), or save fewer images in a file"
        ) from error


def _native(values: "np.ndarray[Any, Any]") -> Tensor:
    # copied, since torch needs native byte order and writable memory
    return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("=")))


def _chosen(path: Path, names: list[str], wanted: str | None) -> str | None:
    if wanted is not None:
        if wanted not in names:
            found = listed(names) if names else "an array without a name"
            raise NcsnxError(f"{path}: expected an array {wanted} (data.array), found {found}")
        return wanted
    images = [name for name in names if name != LABELS]
    if names and len(images) != 1:
        raise NcsnxError(
            f"{path}: expected one array of images, found {listed(images)}; choose one with data.array=NAME or "
            f"{argument('array', A_NAME)}"
        )
    return images[0] if images else None


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
            f"data.channels={channels * (2 if data.is_complex else 1)} data.{field}={size_as_typed(size)}"
            for channels, size in fitting
        )
    return "; reshape it"


def usual_forms(shape: tuple[int, ...]) -> list[tuple[int, ImageSize]]:
    """The (channels, size) that an array of this shape most probably has: squares if they fit, else few channels."""
    forms = array_forms(shape)
    return [form for form in forms if isinstance(form[1], int)] or forms[:1]


def array_forms(shape: tuple[int, ...]) -> list[tuple[int, ImageSize]]:
    """The (channels, size) that an array of this shape could have: squares first, then rectangles of few channels."""
    found: list[tuple[int, tuple[int, int]]] = []
    match shape:
        case (_, height, width):
            found = [(1, (height, width))]
        case (_, first, middle, last):
            found = [(first, (middle, last)), (last, (first, middle))]
    possible = [
        (channels, size)
        for channels, size in found
        if 0 < channels <= MOST_CHANNELS and all(0 < side <= LARGEST_SIDE for side in size)
    ]
    squares = [(channels, size[0]) for channels, size in possible if size[0] == size[1]]
    rectangles = sorted((channels, size) for channels, size in possible if size[0] != size[1])
    return list(dict.fromkeys([*squares, *rectangles]))


def _labels(array: StoredArray, count: int) -> Tensor:
    wanted = f"{array.title}: expected one whole number for each of the {counted(count, 'image')}, found"
    if array.shape != (count,):
        raise NcsnxError(f"{wanted} {product(array.shape)}")
    labels = array.block(0, count)
    if labels.is_floating_point() or labels.is_complex():
        raise NcsnxError(f"{wanted} {str(labels.dtype).removeprefix('torch.')}")
    return labels.to(torch.int64)


def _unknown_type(title: str, found: str) -> str:
    return f"{title}: expected whole, floating-point or complex numbers of up to 64 bits, found {found}; convert it"
