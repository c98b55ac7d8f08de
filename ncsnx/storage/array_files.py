"""Files of arrays from others: `.npy`, `.npz`, safetensors, HDF5 (MATLAB 7.3 included) and NIfTI.

Names and headers are read first, and values only where they are asked for: a header of a hundred bytes may declare
terabytes, and a small archive may unpack to them, so the declared size is compared with memory before values are read.
Nothing is unpickled, only regular files are opened, and no other file is read, whatever the file refers to.
"""

import gzip
import importlib.util
import io
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

import attrs
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from ncsnx.errors import Hint, NcsnxError, shortened
from ncsnx.quantities import counted
from ncsnx.reading import opened, require_whole
from ncsnx.storage.process import SHARE, available_memory, in_utf8
from ncsnx.storage.zips import FEW, ZIP_MAGIC, open_zip

if TYPE_CHECKING:
    import h5py

NPY_MAGIC = b"\x93NUMPY"
"""The first bytes of a `.npy`."""
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
"""The signature of HDF5, at byte 0 or, in MATLAB 7.3, behind 512 bytes of text."""
HDF5 = "HDF5 file"
"""Name of the format that fastMRI and MATLAB 7.3 use."""
REAL, COMPLEX = "buif", "c"
"""NumPy's type kinds: real numbers (including booleans), and complex ones."""
SCIENCE_EXTRA = "pip install '.[science]'"
"""Command that installs the readers of HDF5 and NIfTI."""
_MATLAB_BLOCK = 512
_HEADER_BYTES = 2**16  # NumPy writes about a hundred, and refuses more than 10,000 characters
_PAIRS = (("r", "i"), ("real", "imag"))
_MATLAB_OTHERS = (b"char", b"cell", b"struct", b"function_handle", b"canonical empty")  # classes that hold no numbers
_TENSOR_TYPES = {
    **{"BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8"},
    **{f"{letter}{8 * size}": f"<{letter.lower()}{size}" for letter in "UI" for size in (1, 2, 4, 8)},
}
"""Types of safetensors → NumPy's."""
_NIFTI_BYTES = 540
_MOST_NAMED = 8


@attrs.frozen
class ArrayHeader:
    """Shape and type of an array, as declared by its file."""

    title: str
    """File and array name, for messages."""
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    """Type of the values that are read."""
    is_packed: bool = False
    """Whether reading a part unpacks the whole array."""
    copies: int = 1
    """Number of copies that reading takes."""

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_complex(self) -> bool:
        """Whether the values are complex."""
        return self.dtype.kind in COMPLEX

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape} ({counted(self.nbytes, 'byte')})"

    def require_memory(self, copies: int = 1) -> None:
        """Raises NcsnxError if `copies` of the values don't fit in memory."""
        available = available_memory()
        most = available // SHARE // max(copies, self.copies)
        if self.nbytes > most:
            raise NcsnxError(
                f"{self.title}: declares {self}, but at most {most:,} are read into memory here, of "
                f"{counted(available, 'byte')} available"
            )


@attrs.frozen
class ArrayFile(ABC):
    """A file of arrays, of which only the names have been read."""

    form: ClassVar[str]
    """Name of the format, for messages."""
    path: Path
    names: tuple[str, ...] | None
    """Names of the arrays of numbers; None for a format whose one array has no name."""
    is_matlab: bool = False
    """Whether MATLAB 7.3 wrote it: its axes are reversed in the file, and no array has fewer than two."""
    vectors: Collection[str] = ()
    """Names of MATLAB's arrays whose rows and columns are read as vectors."""

    is_indexed_at_once: ClassVar[bool] = True
    """Whether an array that is mapped takes a list of indices, in any order."""

    @property
    def has_slices_last(self) -> bool:
        """Whether the slices of a volume lie along the third axis by convention, not along the first."""
        return self.is_matlab or isinstance(self, _NiftiFile)

    def header(self, name: str | None = None) -> ArrayHeader:
        """The header of an array. Raises NcsnxError unless it is a plain array that the file can hold."""
        return self._found(name)[0]

    def mapped(self, name: str | None = None) -> Any:
        """The array, with a `shape`, read where it is indexed; a packed one is read whole. Raises NcsnxError."""
        header, read = self._found(name)
        if header.is_packed:
            header.require_memory()
        with _reporting(header.title, self.form):
            return read()

    def read(self, name: str | None = None) -> NDArray[Any]:
        """The array in memory. Raises NcsnxError."""
        header, read = self._found(name)
        header.require_memory()
        with _reporting(header.title, self.form):
            return np.array(read()[...]).reshape(header.shape)

    def chosen(
        self, wanted: str | None, field: str, others: str, *, ignored: str = "", preferred: str = ""
    ) -> str | None:
        """The name of the array to read: `wanted`, else `preferred`, else the only one beside `ignored`.

        None where the one array has no name. field: where `wanted` was declared. others: how to choose another one.
        Raises NcsnxError.
        """
        names = self.names or ()
        if wanted is not None and wanted not in names:
            held = listed(names) if self.names is not None else "an array without a name"
            raise NcsnxError(f"{in_utf8(self.path)}: expected an array {wanted} ({field}), found {held}")
        if wanted is not None or self.names is None:
            return wanted
        candidates = [preferred] if preferred in names else [name for name in names if name != ignored]
        if len(candidates) != 1:
            held = f"{counted(len(candidates), 'array')}: {listed(candidates)}"
            raise NcsnxError(f"{in_utf8(self.path)}: expected one array, found {held}; choose one with {others}")
        return candidates[0]

    def title(self, name: str | None) -> str:
        """File and array name, for messages."""
        return in_utf8(self.path) if name is None else f"{in_utf8(self.path)}, array {_array_name(name)}"

    def _found(self, name: str | None) -> "Found":
        if name is not None and name not in (self.names or ()):
            raise NcsnxError(f"{self.title(name)}: is not there; the file holds {listed(self.names or ())}")
        with _opened(self.path) as file, _reporting(self.title(name), self.form):
            return self._array(file, self.title(name), name)

    @abstractmethod
    def _array(self, file: BufferedReader, title: str, name: str | None) -> "Found":
        """An array of the opened file."""


Found = tuple[ArrayHeader, Callable[[], Any]]
"""The header of an array, and the function that maps it, or reads it if it is packed."""


@attrs.define(eq=False, slots=False)
class StoredArray:
    """An array of a file, mapped at the first access in each process. Picklable."""

    file: ArrayFile
    name: str | None
    header: ArrayHeader
    _values: Any = attrs.field(default=None, init=False)
    _size: int = attrs.field(default=0, init=False)
    """Bytes of the file when it was mapped; 0 if the array is in memory."""

    @classmethod
    def of(cls, file: ArrayFile, name: str | None) -> "StoredArray":
        """The array of a file, of which the header is read. Raises NcsnxError."""
        return cls(file, name, file.header(name))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """The values at integers, slices or, if the file says so, indices. Raises NcsnxError if the file changed."""
        if self._values is None:
            self._values = self.file.mapped(self.name)
            self._size = 0 if self.header.is_packed else self.file.path.stat().st_size
        require_whole(self.file.path, self._size)
        return np.asarray(self._values[key])

    def close(self) -> None:
        """Forgets the values until the next access."""
        self._values = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_values": None}


def open_array_file(path: Path) -> ArrayFile:
    """The file of arrays, by what it begins with; NIfTI by its suffix.

    Raises NcsnxError for other files, files that can't be read, and formats whose extra isn't installed.
    """
    with _opened(path) as file:
        begin = file.read(_MATLAB_BLOCK + len(HDF5_MAGIC))
        if begin.startswith((NPY_MAGIC, ZIP_MAGIC)):
            return _NumpyFile(path, _numpy_names(path, file) if begin.startswith(ZIP_MAGIC) else None)
    if HDF5_MAGIC in (begin[: len(HDF5_MAGIC)], begin[_MATLAB_BLOCK:]):
        _require_extra(path, "h5py", "HDF5")
        is_matlab = begin.startswith(b"MATLAB 7.3")
        with _reporting(in_utf8(path), _Hdf5File.form), _opened_hdf5(path) as content:
            return _Hdf5File(path, tuple(_hdf5_names(content, is_matlab)), is_matlab)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        _require_extra(path, "nibabel", "NIfTI")
        return _NiftiFile(path, None)
    if path.suffix.lower() == ".safetensors" or begin[8:9] == b"{":
        with _reporting(in_utf8(path), _SafetensorsFile.form):
            return _SafetensorsFile(path, tuple(cast("Any", safe_open(path, framework="np")).keys()))
    raise NcsnxError(
        f"{in_utf8(path)}: expected a .npy, .npz, safetensors, HDF5, MATLAB 7.3 or NIfTI file, found something else; "
        "convert it (MATLAB: save(…, '-v7.3'), DICOM: dcm2niix)"
    )


def listed(names: Collection[str]) -> str:
    """Names of arrays, for messages."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(_array_name, list(names)[:_MOST_NAMED])) + more or "none"


class _NumpyFile(ArrayFile):
    """A `.npy` file, which is memory-mapped, or a `.npz`, whose arrays are read into memory."""

    form = ".npy or .npz"

    def _array(self, file: BufferedReader, title: str, name: str | None) -> Found:
        if name is None:
            header = _npy_header(title, file, os.fstat(file.fileno()).st_size)
            return header, lambda: np.load(self.path, mmap_mode="r")
        with open_zip(file, FEW) as archive:
            member = next(one for one in archive.infolist() if one.filename.removesuffix(".npy") == name)
            with archive.open(member) as stream:
                header = _npy_header(title, stream, member.file_size)
        return attrs.evolve(header, is_packed=True), lambda: self._member(name)

    def _member(self, name: str) -> NDArray[Any]:
        with np.load(self.path) as arrays:
            return np.asarray(arrays[name])


def _npy_header(title: str, stream: IO[bytes], size: int) -> ArrayHeader:
    """The header of a `.npy` of `size` bytes. Raises NcsnxError, also for an array of other things than numbers."""
    head = io.BytesIO(stream.read(min(size, _HEADER_BYTES)))
    version = np.lib.format.read_magic(head)
    # version 3 only adds field names in UTF-8, and plain arrays have no fields
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(head)
    if dtype.hasobject:
        raise NcsnxError(f"{title}: holds Python objects, which are never unpickled; save it as numbers")
    if dtype.fields is not None or dtype.subdtype is not None:
        raise NcsnxError(f"{title}: holds records of {shortened(str(dtype))}; save each field as a separate array")
    header, held = ArrayHeader(title, tuple(map(int, shape)), dtype), size - head.tell()
    if held != header.nbytes:
        raise NcsnxError(f"{title}: declares {header}, but holds {counted(held, 'byte')}; get a complete copy")
    return header


def _numpy_names(path: Path, file: BufferedReader) -> tuple[str, ...]:
    with _reporting(in_utf8(path), _NumpyFile.form), open_zip(file, FEW) as archive:
        names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise NcsnxError(f"{in_utf8(path)}: holds several arrays called {_array_name(twice[0])}; save it again")
    return tuple(names)


class _SafetensorsFile(ArrayFile):
    """A safetensors file, memory-mapped. Its header is checked by the library."""

    form = "safetensors file"

    def _array(self, file: BufferedReader, title: str, name: str | None) -> Found:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        if entry["dtype"] not in _TENSOR_TYPES:
            raise NcsnxError(f"{title}: holds {entry['dtype']}, which NumPy does not know; save it as float32")
        header = ArrayHeader(title, tuple(entry["shape"]), np.dtype(_TENSOR_TYPES[entry["dtype"]]))
        start = 8 + length + int(entry["data_offsets"][0])
        if header.nbytes == 0:
            return header, lambda: np.empty(header.shape, header.dtype)
        return header, lambda: np.memmap(self.path, header.dtype, "r", start, header.shape)


class _Hdf5File(ArrayFile):
    """An HDF5 file: data sets of real or complex numbers by their paths.

    A complex number is HDF5's own type, or a pair of r and i or of real and imag. The file is opened at each read, so
    that it may be used in any process.
    """

    form = HDF5
    is_indexed_at_once = False

    def _array(self, file: BufferedReader, title: str, name: str | None) -> Found:
        with _opened_hdf5(self.path) as content:
            dataset = content[name]
            if dataset.is_virtual or dataset.external:
                raise NcsnxError(f"{title}: keeps its values in other files, which are not read; save the array itself")
            ArrayHeader(f"{title}, one chunk", dataset.chunks or (0,), dataset.dtype).require_memory()
            shape = stored = tuple(map(int, dataset.shape))[:: -1 if self.is_matlab else 1]
            if name in self.vectors and len(shape) == 2 and 1 in shape:
                shape = (math.prod(shape),)
            dtype = _number_type(dataset.dtype)
            assert dtype is not None  # else it has no name
        return ArrayHeader(title, shape, dtype), lambda: _LazyHdf5(self, name, stored)


@attrs.frozen
class _LazyHdf5:
    """An array of an HDF5 file; of a compressed one, the chunks that hold the indexed values are read."""

    file: _Hdf5File
    name: str | None
    shape: tuple[int, ...]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        title = self.file.title(self.name)
        with _reporting(title, self.file.form), _opened_hdf5(self.file.path) as content:
            if self.file.is_matlab and key is not ...:
                key = (*key, *[slice(None)] * (len(self.shape) - len(key)))[::-1]
            values = np.asarray(content[self.name][key])
        wanted = _number_type(values.dtype)
        values = values.T if self.file.is_matlab else values
        if values.dtype.names is None:
            return values.astype(wanted, copy=False)
        joined = np.empty(values.shape, wanted)
        joined.real, joined.imag = (values[part] for part in values.dtype.names)
        return joined


@contextmanager
def _opened_hdf5(path: Path) -> "Iterator[h5py.File]":
    import h5py

    # without locking: a reader shouldn't stop a writer, and some file systems have no locks
    with h5py.File(path, "r", locking=False) as content:
        yield content


def _hdf5_names(content: "h5py.File", is_matlab: bool) -> list[str]:
    """Paths of the data sets of numbers, as h5py visits them: through hard links, so that no other file is opened."""
    import h5py

    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        is_inner = is_matlab and name.startswith("#")  # where MATLAB keeps the contents of cells and objects
        if not isinstance(item, h5py.Dataset) or is_inner or item.shape is None:
            return
        is_other = is_matlab and item.attrs.get("MATLAB_class", b"double") in _MATLAB_OTHERS
        if not is_other and _number_type(item.dtype) is not None:
            names.append(name)

    content.visititems(visit)
    return names


def _number_type(dtype: "np.dtype[Any]") -> "np.dtype[Any] | None":
    """The type of the numbers that are read from a type in the file; None if it holds no numbers."""
    if dtype.names in _PAIRS:
        parts = {dtype[name].newbyteorder("=") for name in dtype.names}
        is_packed = dtype.itemsize == sum(dtype[name].itemsize for name in dtype.names)  # memory is compared by it
        is_pair = is_packed and len(parts) == 1 and parts <= {np.dtype("float32"), np.dtype("float64")}
        return np.result_type(parts.pop(), np.complex64) if is_pair else None
    is_plain = dtype.fields is None and dtype.subdtype is None and dtype.kind in REAL + COMPLEX
    return dtype.newbyteorder("=") if is_plain else None


class _NiftiFile(ArrayFile):
    """A `.nii` or `.nii.gz`, versions 1 and 2, with its scale applied. Pairs of `.hdr` and `.img` aren't read."""

    form = "NIfTI file"

    def _array(self, file: BufferedReader, title: str, name: str | None) -> Found:
        """The array, without axes of length 1 at the end."""
        from nibabel.arrayproxy import ArrayProxy
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header

        is_packed, size = self.path.suffix.lower() == ".gz", os.fstat(file.fileno()).st_size
        with gzip.open(file) if is_packed else file as stream:
            begin = stream.read(_NIFTI_BYTES)
        if begin[344:348] != b"n+1\0" and begin[4:8] != b"n+2\0":
            raise ValueError("its header has another magic number (pairs of .hdr and .img are not read)")
        kind, length = (Nifti1Header, 348) if begin[344:348] == b"n+1\0" else (Nifti2Header, 540)
        parsed = cast("Any", kind)(begin[:length], check=False)  # nibabel has no types
        stored, shape, offset = parsed.get_data_dtype(), tuple(parsed.get_data_shape()), parsed.get_data_offset()
        if not length <= offset < 2**31:
            raise ValueError(f"its values begin at byte {offset}")
        while len(shape) > 1 and shape[-1] == 1:
            shape = shape[:-1]
        if stored.names or stored.kind not in REAL + COMPLEX or stored.itemsize > (16 if stored.kind == "c" else 8):
            raise NcsnxError(f"{title}: expected real or complex numbers of up to 64 bits, found {stored}; convert it")
        proxy = cast("Any", ArrayProxy)(self.path, parsed)
        is_scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
        dtype = np.dtype(np.complex64 if stored.kind == "c" else np.float32) if is_scaled else stored.newbyteorder("=")
        header = ArrayHeader(title, shape, dtype, is_packed, 2 if is_scaled else 1)
        if offset + math.prod(shape) * stored.itemsize > size * (1_032 if is_packed else 1):  # gzip's largest ratio
            held = counted(size, "byte")
            raise NcsnxError(f"{title}: declares {header}, but holds {held}; get a complete copy")
        # the proxy's own indexing takes 15 to 58 ms per slice
        return header, lambda: _Scaled(proxy.get_unscaled().reshape(shape, order="F"), dtype, proxy.slope, proxy.inter)


@attrs.frozen(eq=False)
class _Scaled:
    """An array whose values are scaled where it is indexed."""

    stored: NDArray[Any]
    dtype: "np.dtype[Any]"
    slope: float
    inter: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    def __getitem__(self, key: Any) -> NDArray[Any]:
        from nibabel.volumeutils import apply_read_scaling

        return np.asarray(apply_read_scaling(self.stored[key], self.slope, self.inter)).astype(self.dtype, copy=False)


def _require_extra(path: Path, module: str, format_name: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise NcsnxError(
            f"{path}: {format_name} needs an extra that is not installed",
            Hint("install it, in a clone of ncsnx", SCIENCE_EXTRA),
        )


def _array_name(name: str) -> str:
    """A stranger's name of an array, for messages."""
    return name if name.isascii() and name.isidentifier() and len(name) <= 80 else shortened(ascii(name))


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """A regular file. Raises NcsnxError if it's empty or can't be read."""
    try:
        with opened(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise NcsnxError(f"{in_utf8(path)}: is empty; get a complete copy")
            yield file
    except OSError as error:
        raise NcsnxError(f"{in_utf8(path)}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _reporting(title: str, form: str) -> Iterator[None]:
    """Turns errors in reading a stranger's file into NcsnxErrors. form: what a valid file is."""
    try:
        yield
    except NcsnxError:
        raise
    except MemoryError as error:
        raise NcsnxError(f"{title}: does not fit in memory") from error
    except Exception as error:  # a damaged file makes the libraries raise almost anything
        reason = shortened(" ".join(str(error).split())) or type(error).__name__
        raise NcsnxError(f"{title}: is not a valid {form}: {reason}; get a complete copy, or save it again") from error
