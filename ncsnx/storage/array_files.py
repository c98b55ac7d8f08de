"""Files of arrays from others: `.npy`, `.npz`, safetensors, HDF5 (MATLAB 7.3 included) and NIfTI, by their libraries.

Names, shapes and types are read first, and values only where they are asked for: a header of a hundred bytes may
declare terabytes, and a small archive may unpack to them, so the declared size is compared with the file and with
memory before values are read. Nothing is unpickled, only regular files are opened, and no other file is read, whatever
the file refers to.
"""

import importlib.util
import io
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from ncsnx.bounded_reads import FEW_MEMBERS, ZIP_MAGIC, open_zip, opened, require_whole
from ncsnx.errors import NcsnxError, install_hint, shortened
from ncsnx.quantities import counted, listed
from ncsnx.storage.process import SHARE, available_memory, in_utf8

REAL, COMPLEX = "buif", "c"
"""NumPy's type kinds: real numbers (including booleans), and complex ones."""
NUMBERS = ".npy"
"""Suffix of a file of one array, in lower case."""
_MATLAB_BLOCK = 512
_PAIRS = (("r", "i"), ("real", "imag"))
_MATLAB_OTHERS = (b"char", b"cell", b"struct", b"function_handle", b"canonical empty")  # classes that hold no numbers
_LONGEST_HEADER = 2**16  # of a .npy
_LARGEST_RATIO = 1_032  # of what deflate unpacks


@attrs.define(eq=False, slots=False)
class StoredArray:
    """An array of real or complex numbers in a file, mapped at the first access in each process. Picklable."""

    file: "ArrayFile"
    name: str | None
    """None for the one array of a file without names."""
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    """Type of the values that are read."""
    is_packed: bool
    """Whether reading a part unpacks the whole array."""
    _values: Any = attrs.field(default=None, init=False)

    @property
    def title(self) -> str:
        """File and array name, for messages."""
        return self.file.title(self.name)

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
        if self.nbytes > (most := available // SHARE // copies):
            raise NcsnxError(
                f"{self.title}: declares {self}, but at most {most:,} are read into memory here, of "
                f"{counted(available, 'byte')} available"
            )

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """The values at integers and slices. Raises NcsnxError if the file changed or is damaged."""
        with _reporting(self.title):
            return np.asarray(self._mapped()[key], self.dtype)

    def rows(self, indices: Collection[int]) -> NDArray[Any]:
        """The values at these indices of the first axis, in any order. Raises as indexing does."""
        found = np.empty((len(indices), *self.shape[1:]), self.dtype)
        with _reporting(self.title):
            values = self._mapped()
            if isinstance(values, np.ndarray):
                return np.asarray(values[list(indices)], self.dtype)
            for place, index in enumerate(indices):
                found[place] = values[index]
        return found

    def read(self) -> NDArray[Any]:
        """A copy of all values in memory. Raises NcsnxError."""
        self.require_memory()
        return np.array(self[...]).reshape(self.shape)

    def _mapped(self) -> Any:
        if self._values is None:
            values = self.file.mapped(self.name)
            if self.is_packed:
                self.require_memory()
                values = values[...]
            self._values = values
        require_whole(self.file.path, 0 if self.is_packed else self.file.size)
        return self._values

    def close(self) -> None:
        """Forgets the values until the next access."""
        self._values = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_values": None}


@attrs.frozen
class ArrayFile:
    """A file of arrays, of which only the names have been read."""

    path: Path
    size: int
    """Bytes of the file."""
    names: tuple[str, ...] | None
    """Names of the arrays of numbers; None for a format whose one array has no name."""
    _map: Callable[[Path, str], Any]
    """Path and name → an array-like with `shape`, `dtype` and lazy indexing by integers and slices."""
    is_matlab: bool = False
    """Whether MATLAB 7.3 wrote it: its axes are reversed in the file, and no array has fewer than two."""
    has_slices_last: bool = False
    """Whether the slices of a volume lie along the third axis by convention, not along the first."""

    def array(self, name: str | None = None) -> StoredArray:
        """An array, of which shape and type are read. Raises NcsnxError unless it is one that the file can hold."""
        if name is not None and name not in (self.names or ()):
            raise NcsnxError(f"{self.title(name)}: is not there; the file holds {_listed(self.names or ())}")
        with _reporting(self.title(name)):
            values = self.mapped(name)
            shape, dtype = tuple(map(int, values.shape)), np.dtype(values.dtype)
            if min(shape, default=0) < 0:
                raise ValueError(f"declares the shape {shape}")
        array = StoredArray(self, name, shape, dtype, isinstance(values, _Unpacked))
        if dtype.kind not in REAL + COMPLEX or dtype.itemsize > (16 if array.is_complex else 8):
            found = shortened(str(dtype))
            raise NcsnxError(
                f"{array.title}: expected real or complex numbers of up to 64 bits, found {found}; convert it"
            )
        if array.is_packed and array.nbytes > _LARGEST_RATIO * self.size:
            raise NcsnxError(f"{array.title}: declares {array}, but the file has {counted(self.size, 'byte')}")
        return array

    def mapped(self, name: str | None) -> Any:
        """The array as its library maps it. Raises whatever the library does."""
        return self._map(self.path, name or "")

    def chosen(
        self, wanted: str | None, field: str, others: str, *, ignored: str = "", preferred: str = ""
    ) -> str | None:
        """The name of the array to read: `wanted`, else `preferred`, else the only one beside `ignored`.

        None where the one array has no name. field: where `wanted` was declared. others: how to choose another one.
        Raises NcsnxError.
        """
        names = self.names or ()
        if wanted is not None and wanted not in names:
            held = _listed(names) if self.names is not None else "an array without a name"
            raise NcsnxError(f"{in_utf8(self.path)}: expected an array {wanted} ({field}), found {held}")
        if wanted is not None or self.names is None:
            return wanted
        candidates = [preferred] if preferred in names else [name for name in names if name != ignored]
        if len(candidates) != 1:
            held = f"{counted(len(candidates), 'array')}: {_listed(candidates)}"
            raise NcsnxError(f"{in_utf8(self.path)}: expected one array, found {held}; choose one with {others}")
        return candidates[0]

    def title(self, name: str | None) -> str:
        """File and array name, for messages."""
        return in_utf8(self.path) if name is None else f"{in_utf8(self.path)}, array {_array_name(name)}"


def open_array_file(path: Path) -> ArrayFile:
    """The file of arrays, by what it begins with; NIfTI by its suffix.

    Raises NcsnxError for other files, files that can't be read, and formats whose extra isn't installed.
    """
    with _reporting(in_utf8(path)), opened(path) as file:
        size, begin = os.fstat(file.fileno()).st_size, file.read(_MATLAB_BLOCK + 8)
        if begin.startswith(b"\x93NUMPY"):
            return ArrayFile(path, size, None, _map_npy)
        if begin.startswith(ZIP_MAGIC):
            with open_zip(file, FEW_MEMBERS) as archive:
                members = (name for name in archive.namelist() if name.endswith(".npy"))
                names = tuple(name.removesuffix(".npy") for name in members)
            return ArrayFile(path, size, names, _map_npz)
        if b"\x89HDF\r\n\x1a\n" in (begin[:8], begin[_MATLAB_BLOCK:]):
            _require_extra(path, "h5py", "HDF5")
            is_matlab = begin.startswith(b"MATLAB 7.3")
            mapper = _map_matlab if is_matlab else _map_hdf5
            names = tuple(_hdf5_names(path, is_matlab))
            return ArrayFile(path, size, names, mapper, is_matlab, has_slices_last=is_matlab)
        if path.name.lower().endswith((".nii", ".nii.gz")):
            _require_extra(path, "nibabel", "NIfTI")
            return ArrayFile(path, size, None, _map_nifti, has_slices_last=True)
        if path.suffix.lower() == ".safetensors" or begin[8:9] == b"{":
            return ArrayFile(path, size, tuple(cast("Any", safe_open(path, framework="np")).keys()), _map_safetensors)
    raise NcsnxError(
        f"{in_utf8(path)}: expected a .npy, .npz, safetensors, HDF5, MATLAB 7.3 or NIfTI file, found something else; "
        "convert it (MATLAB: save(…, '-v7.3'), DICOM: dcm2niix)"
    )


def _listed(names: Collection[str]) -> str:
    """Names of arrays, for messages."""
    return listed([*map(_array_name, names)], most=8) or "none"


@attrs.frozen
class ExpectedArray:
    """Type and shape that a reader accepts for an array."""

    what: str
    """The values in words, such as 'real numbers'."""
    kinds: str
    """Accepted NumPy type kinds (`dtype.kind`), one letter each."""
    shapes: tuple[tuple[int | str, ...], ...]
    """Accepted shapes; a letter stands for any size except 0."""
    optional: bool = False
    copies: int = 1
    """Number of copies that must fit in memory."""
    advice: str = ""
    """Advice for arrays of another shape, appended to the message."""

    def require(self, array: StoredArray) -> None:
        """Raises NcsnxError, with the expected and the declared array, if `array` doesn't match."""
        if array.dtype.kind not in self.kinds or not any(_fits(array.shape, shape) for shape in self.shapes):
            raise NcsnxError(f"{array.title}: expected {self}, found {array}{self.advice}")
        array.require_memory(self.copies)

    @property
    def is_vector(self) -> bool:
        """Whether a column can only mean a vector: not if rows and columns mean different things, as in a mask."""
        return all(len(shape) == 1 or shape[0] == "P" for shape in self.shapes)

    def __str__(self) -> str:
        return f"{self.what} of shape {' or '.join(map(_in_words, self.shapes))}"


def read_arrays(
    path: Path, expected: Mapping[str, ExpectedArray], how: str, *, ignored: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """The expected arrays of a file by name.

    how: advice on saving such a file. ignored: names that are allowed but not read. Raises NcsnxError for any other
    array before reading values: an unknown array may change the meaning of the others.
    """
    file = open_array_file(path)
    optional = [name for name, array in expected.items() if array.optional]
    required = [name for name in expected if name not in optional]
    accepted = f"the arrays {' and '.join(required)}" + (f" (optional: {', '.join(optional)})" if optional else "")
    if file.names is None:
        raise NcsnxError(f"{in_utf8(path)}: expected {accepted}, found one array without a name; {how}")
    unknown = [name for name in file.names if name not in expected and name not in ignored]
    if unknown or any(name not in file.names for name in required):
        names = f"{_listed(file.names)}{f' (not understood: {_listed(unknown)})' if unknown else ''}"
        raise NcsnxError(f"{in_utf8(path)}: expected {accepted}, found {names}; {how}")
    found = {name: file.array(name) for name in expected if name in file.names}
    for name, array in found.items():
        if file.is_matlab and expected[name].is_vector and 1 in array.shape:
            array.shape = (math.prod(array.shape),)
        expected[name].require(array)
    return {name: array.read() for name, array in found.items()}


def _fits(shape: tuple[int, ...], expected: tuple[int | str, ...]) -> bool:
    return len(shape) == len(expected) and all(
        axis == wanted or (isinstance(wanted, str) and axis > 0) for axis, wanted in zip(shape, expected, strict=True)
    )


def _in_words(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


@attrs.frozen(eq=False)
class _Unpacked:
    """An array that can only be read whole."""

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    read: Callable[[], Any]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.read()[key])


@attrs.frozen(eq=False)
class _Converted:
    """An array whose values are converted where it is indexed."""

    values: Any
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    convert: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray
    is_reversed: bool = False
    """Whether its axes are in reverse order."""

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if not self.is_reversed:
            return self.convert(self.values[key])
        if key is not ...:
            key = key if isinstance(key, tuple) else (key,)
            key = (*key, *[slice(None)] * (len(self.shape) - len(key)))[::-1]
        return self.convert(self.values[key]).T


def _declared(file: IO[bytes]) -> "tuple[tuple[int, ...], np.dtype[Any]]":
    """Shape and type that a .npy declares. Its header may declare gigabytes, and is read up to a limit."""
    stream = io.BytesIO(file.read(_LONGEST_HEADER))
    version = np.lib.format.read_magic(stream)
    # version 3 only adds field names in UTF-8, and numbers have no fields
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _map_npy(path: Path, _: str) -> Any:
    with opened(path) as file:
        _declared(file)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _map_npz(path: Path, name: str) -> _Unpacked:
    with opened(path) as file, open_zip(file, FEW_MEMBERS) as archive:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as content:
            shape, dtype = _declared(content)
        if (declared := math.prod(shape) * dtype.itemsize) > member.file_size:
            raise ValueError(f"declares {counted(declared, 'byte')}, but holds {member.file_size:,}")

    def unpack() -> Any:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[name]

    return _Unpacked(shape, dtype, unpack)


def _map_safetensors(path: Path, name: str) -> Any:
    content = cast("Any", safe_open(path, framework="np"))
    values = content.get_slice(name)
    if values.get_dtype() == "BF16":
        raise NcsnxError(f"{in_utf8(path)}: {_array_name(name)} holds bfloat16; convert it to float32")
    if 0 in (shape := tuple(values.get_shape())):  # which the library doesn't slice
        return content.get_tensor(name)
    return _Converted(values, shape, values[(slice(0, 1),) * len(shape) or ...].dtype)


def _map_hdf5(path: Path, name: str) -> _Converted:
    import h5py

    # without locking: a reader shouldn't stop a writer, and some file systems have no locks
    dataset: Any = h5py.File(path, "r", locking=False)[name]
    if dataset.is_virtual or dataset.external:
        raise ValueError("its values are in other files, which are not read")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize  # which reading any part unpacks
    if chunk > (most := available_memory() // SHARE):
        raise NcsnxError(
            f"{in_utf8(path)}: {_array_name(name)} has chunks of {counted(chunk, 'byte')}, but at most {most:,} are "
            "read"
        )
    return _Converted(dataset, dataset.shape, cast("Any", _number_type(dataset.dtype)), _joined)


def _map_matlab(path: Path, name: str) -> _Converted:
    found = _map_hdf5(path, name)
    return attrs.evolve(found, shape=found.shape[::-1], is_reversed=True)


def _joined(values: NDArray[Any]) -> NDArray[Any]:
    """Pairs of numbers as complex ones."""
    if values.dtype.names is None:
        return np.asarray(values)
    joined = np.empty(values.shape, _number_type(values.dtype))
    joined.real, joined.imag = (values[part] for part in values.dtype.names)
    return joined


def _hdf5_names(path: Path, is_matlab: bool) -> list[str]:
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

    with h5py.File(path, "r", locking=False) as content:
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


def _map_nifti(path: Path, _: str) -> Any:
    """A `.nii` or `.nii.gz`, versions 1 and 2, scaled, without axes of length 1 at the end.

    The header alone is read: its extensions may be large.
    """
    import gzip

    from nibabel.arrayproxy import ArrayProxy
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    is_packed, size = path.suffix.lower() == ".gz", path.stat().st_size
    with gzip.open(path) if is_packed else opened(path) as stream:
        begin = stream.read(540)
    if begin[344:348] != b"n+1\0" and begin[4:8] != b"n+2\0":
        raise ValueError("its header has another magic number (pairs of .hdr and .img are not read)")
    kind, length = (Nifti1Header, 348) if begin[344:348] == b"n+1\0" else (Nifti2Header, 540)
    header = cast("Any", kind)(begin[:length], check=False)  # nibabel has no types
    proxy = cast("Any", ArrayProxy)(path, header)
    shape, slope, inter = tuple(map(int, proxy.shape)), proxy.slope, proxy.inter
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    is_scaled, dtype = (slope, inter) != (1.0, 0.0), proxy.dtype.newbyteorder("=")
    wanted = np.dtype(np.complex64 if dtype.kind == "c" else np.float32) if is_scaled else dtype
    if is_packed:
        return _Unpacked(shape, wanted, lambda: np.asanyarray(proxy).reshape(shape))
    if not length <= proxy.offset <= size - math.prod(shape) * dtype.itemsize:
        raise ValueError(f"declares {dtype} of shape {shape} from byte {proxy.offset:,}, but has {size:,}")
    # the proxy's own indexing takes 15 to 80 ms per slice
    values = proxy.get_unscaled().reshape(shape, order="F")
    return _Converted(values, shape, wanted, lambda part: part * slope + inter) if is_scaled else values


def _require_extra(path: Path, module: str, format_name: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise NcsnxError(f"{path}: {format_name} needs an extra that is not installed", install_hint("science"))


def _array_name(name: str) -> str:
    """A stranger's name of an array, for messages."""
    return name if name.isascii() and name.isidentifier() and len(name) <= 80 else shortened(ascii(name))


@contextmanager
def _reporting(title: str) -> Iterator[None]:
    """Turns errors in reading a stranger's file into NcsnxErrors."""
    try:
        yield
    except NcsnxError:
        raise
    except MemoryError as error:
        raise NcsnxError(f"{title}: does not fit in memory") from error
    except Exception as error:  # a damaged file makes the libraries raise almost anything
        if isinstance(error, OSError) and error.strerror:
            raise NcsnxError(f"{title}: cannot be read: {error.strerror}") from error
        reason = shortened(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
        raise NcsnxError(f"{title}: cannot be read: {reason}; get a complete copy, or save it again") from error
