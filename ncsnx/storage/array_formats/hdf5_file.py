"""Safe reading of untrusted HDF5 files, including MATLAB 7.3: data sets of real or complex numbers by their paths.

HDF5 can refer to other files in four ways: external links, soft links to those, external storage, and virtual data
sets. All are refused. A complex number is HDF5's own type, or a pair of r and i or of real and imag. MATLAB writes the
axes in reverse order, which is undone here.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from ncsnx.config.checks import shortened
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.array_formats.array_file import require_extra
from ncsnx.storage.free_memory import SHARE, available_memory
from ncsnx.storage.numpy_files import COMPLEX, REAL, ArrayHeader, array_name, listed, opened_arrays, reporting_damage
from ncsnx.storage.process import in_utf8

if TYPE_CHECKING:
    import h5py

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
"""The signature of HDF5, at byte 0 or behind a block of MATLAB's text."""
MATLAB_BLOCK = 512
"""Bytes of text before the signature, in MATLAB 7.3."""
_MATLAB = b"MATLAB 7.3"
_PAIRS = (("r", "i"), ("real", "imag"))
_NO_ARRAYS = ("#refs#", "#subsystem#")  # where MATLAB keeps the contents of cells and objects
_TEXT_OR_OTHER = (b"char", b"cell", b"struct", b"function_handle", b"canonical empty")  # MATLAB's classes of no numbers
_MOST_NAMES, _MOST_DEPTH = 10_000, 16


def is_hdf5(begin: bytes) -> bool:
    """Whether a file that begins with these bytes, at least 520, is HDF5."""
    return any(begin.startswith(HDF5_MAGIC, place) for place in (0, MATLAB_BLOCK))


@attrs.frozen
class Hdf5File:
    """An HDF5 file, of which only the names of its arrays of numbers have been read."""

    path: Path
    names: tuple[str, ...]
    """Paths of the data sets of numbers, without the first slash."""
    is_matlab: bool

    @classmethod
    def open(cls, path: Path) -> "Hdf5File":
        """Reads the names. Raises NcsnxError for other files, and without h5py."""
        require_extra(path, "h5py", "HDF5")
        with opened_arrays(path) as file:
            is_matlab = file.read(len(_MATLAB)) == _MATLAB
        with reporting_damage(in_utf8(path), "HDF5 file"), _opened(path) as content:
            return cls(path, tuple(_names(content, is_matlab)), is_matlab)

    def header(self, name: str | None = None) -> ArrayHeader:
        """The header of an array. Raises NcsnxError unless it is a plain array of numbers in this file."""
        with self._found(name) as dataset:
            return _header(self._title(name), dataset, self.is_matlab)

    def read(self, name: str | None = None) -> NDArray[Any]:
        """The array in memory. Raises NcsnxError."""
        self.header(name).require_memory()
        return self.part(name, ())

    def mapped(self, name: str | None = None) -> "LazyHdf5":
        """The array, read where it is indexed; of a compressed one, the chunks that hold it. Raises NcsnxError."""
        return LazyHdf5(self, name, self.header(name).shape)

    def part(self, name: str | None, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """The values at `key` along the first axes."""
        with self._found(name) as dataset:
            if self.is_matlab:
                whole = (*key, *[slice(None)] * (dataset.ndim - len(key)))
                values = np.asarray(dataset[whole[::-1]]).T
            else:
                values = np.asarray(dataset[key])
        return _as_numbers(values)

    @contextmanager
    def _found(self, name: str | None) -> "Iterator[h5py.Dataset]":
        title = self._title(name)
        with reporting_damage(title, "HDF5 file"), _opened(self.path) as content:
            dataset = _followed(title, content, name, self.names)
            _require_inside(title, dataset)
            yield dataset

    def _title(self, name: str | None) -> str:
        return in_utf8(self.path) if name is None else f"{in_utf8(self.path)}, array {array_name(name)}"


@attrs.frozen
class LazyHdf5:
    """An array of an HDF5 file. The file is opened at each read, so that it may be used in any process."""

    file: Hdf5File
    name: str | None
    shape: tuple[int, ...]

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        return self.file.part(self.name, key)


@contextmanager
def _opened(path: Path) -> "Iterator[h5py.File]":
    import h5py

    with opened_arrays(path) as file:  # a regular file
        size = os.fstat(file.fileno()).st_size
    try:
        # without locking: a reader shouldn't stop a writer, and some file systems have no locks
        content = h5py.File(path, "r", locking=False)
    except OSError as error:
        if "truncated file" in str(error):
            raise NcsnxError(
                f"{in_utf8(path)}: is truncated: HDF5 declares more than its {counted(size, 'byte')}; get a complete "
                "copy"
            ) from error
        raise
    with content:
        yield content


def _names(content: "h5py.File", is_matlab: bool) -> list[str]:
    """Paths of the data sets of numbers. Links other than hard ones aren't followed."""
    import h5py

    found: list[str] = []

    def walk(group: "h5py.Group", path: str, depth: int) -> None:
        for name in group:
            if is_matlab and not path and name in _NO_ARRAYS:
                continue
            inner = f"{path}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Group) and depth < _MOST_DEPTH:
                walk(item, f"{inner}/", depth + 1)
            elif isinstance(item, h5py.Dataset) and _is_array(item, is_matlab):
                found.append(inner)
            if len(found) > _MOST_NAMES:
                raise ValueError(f"it holds more than {counted(_MOST_NAMES, 'array')}")

    walk(content, "", 0)
    return found


def _is_array(dataset: "h5py.Dataset", is_matlab: bool) -> bool:
    if is_matlab and dataset.attrs.get("MATLAB_class", b"double") in _TEXT_OR_OTHER:
        return False
    return dataset.shape is not None and _number_type(dataset.dtype) is not None


def _followed(title: str, content: "h5py.File", name: str | None, names: tuple[str, ...]) -> "h5py.Dataset":
    """The data set at a path, through hard links alone."""
    import h5py

    item: Any = content
    for part in (name or "").split("/"):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) and part else None
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            target = getattr(link, "filename", link.path)
            raise NcsnxError(
                f"{title}: is a link to {shortened(ascii(target))}, which is not followed; save the array itself"
            )
        if link is None:
            raise NcsnxError(f"{title}: is not there; the file holds {listed(names)}")
        item = item[part]
    if not isinstance(item, h5py.Dataset):
        raise NcsnxError(f"{title}: is a group, not an array; the file holds {listed(names)}")
    return item


def _require_inside(title: str, dataset: "h5py.Dataset") -> None:
    """Raises NcsnxError for values in other files, and for chunks that don't fit in memory."""
    if dataset.is_virtual or dataset.external:
        raise NcsnxError(f"{title}: keeps its values in other files, which are not read; save the array itself")
    chunk, most = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize, available_memory() // SHARE
    if chunk > most:
        raise NcsnxError(
            f"{title}: its chunks of {counted(chunk, 'byte')} do not fit in memory, which has {most:,} for them here; "
            "save it with smaller chunks"
        )


def _header(title: str, dataset: "h5py.Dataset", is_matlab: bool) -> ArrayHeader:
    if dataset.shape is None:
        raise NcsnxError(f"{title}: expected an array of numbers, found an empty one")
    dtype = _number_type(dataset.dtype)
    if dtype is None:
        found = "objects or text" if dataset.dtype.hasobject else shortened(str(dataset.dtype))
        raise NcsnxError(f"{title}: expected an array of numbers, found {found}; save it as numbers")
    shape = tuple(map(int, dataset.shape))
    offset = None if dataset.chunks else dataset.id.get_offset()  # None also for values that were never written
    return ArrayHeader.checked(
        title,
        shape[::-1] if is_matlab else shape,
        dtype,
        offset,
        int(dataset.id.get_storage_size()),
        fortran_order=is_matlab,
    )


def _number_type(dtype: "np.dtype[Any]") -> "np.dtype[Any] | None":
    """The type of the numbers that are read from a type in the file; None if it holds no numbers."""
    if dtype.names in _PAIRS:
        parts = {dtype[name].newbyteorder("=") for name in dtype.names}
        if parts <= {np.dtype("float32"), np.dtype("float64")} and len(parts) == 1:
            return np.result_type(parts.pop(), np.complex64)
        return None
    is_plain = dtype.fields is None and dtype.subdtype is None
    return dtype.newbyteorder("=") if is_plain and dtype.kind in REAL + COMPLEX else None


def _as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    wanted = _number_type(values.dtype)
    assert wanted is not None
    if values.dtype.names is None:
        return values.astype(wanted, copy=False)
    real, imaginary = (values[name] for name in values.dtype.names)
    joined = np.empty(values.shape, wanted)
    joined.real, joined.imag = real, imaginary
    return joined
