"""Safe reading of untrusted `.npy` and `.npz` files: headers first, then only the values that are needed.

A header of a hundred bytes may declare terabytes, and a small archive may unpack to them. A reader therefore checks
name, shape and type in the header before it reads values. Uncompressed values (a `.npy`, or a `.npz` without
compression) can be memory-mapped; compressed ones are unpacked as far as memory allows. Only regular files are opened,
and nothing is unpickled.
"""

import io
import math
import os
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Literal, Protocol, Self, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from ncsnx.config.checks import quoted, shortened
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.free_memory import SHARE, available_memory
from ncsnx.storage.process import in_utf8
from ncsnx.storage.reading import opened, sha256
from ncsnx.storage.zips import FEW, ZIP_MAGIC, open_zip

NPY_MAGIC = b"\x93NUMPY"
"""The first bytes of a `.npy`."""
REAL, COMPLEX = "buif", "c"
"""NumPy's type kinds: real numbers (including booleans), and complex ones."""

_HEADER_BYTES = 2**16  # NumPy writes about a hundred, and refuses more than 10,000 characters
_VERSIONS = ((1, 0), (2, 0), (3, 0))
_MOST_AXES = 64
_MOST_NAMED = 8
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # a zip member's local header: magic, length of name, length of extras
_MEMBER_MAGIC = b"PK\3\4"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # NumPy's methods, whose unpacking can be bounded
_UNPACKED_BYTES, _UNPACKED_RATIO = 64 * 2**20, 200  # a member that exceeds both is refused as a bomb


@attrs.frozen
class ArrayHeader:
    """Shape, type and location of an array, as declared by its file."""

    title: str
    """File and array name, for messages."""
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    fortran_order: bool
    start: int | None
    """Offset in the file of the first value; None for compressed values."""
    stored_bytes: int
    """Bytes in the file, possibly compressed."""

    @classmethod
    def checked(
        cls,
        title: str,
        shape: tuple[int, ...],
        dtype: "np.dtype[Any]",
        start: int | None,
        stored_bytes: int,
        *,
        fortran_order: bool = False,
    ) -> Self:
        """The header of an array. Raises NcsnxError for an impossible shape."""
        # each axis is checked, since a 0 would hide a huge one in the product
        is_possible = len(shape) <= _MOST_AXES and all(0 <= axis < 2**63 for axis in shape)
        if not is_possible or math.prod(shape) * dtype.itemsize >= 2**63:
            raise NcsnxError(f"{title}: declares the impossible shape {quoted(shape)}; save it again")
        return cls(title, tuple(map(int, shape)), dtype, fortran_order, start, stored_bytes)

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape} ({counted(self.nbytes, 'byte')})"

    def require_memory(self, copies: int = 1) -> None:
        """Raises NcsnxError if `copies` of the values don't fit in memory, or for a decompression bomb."""
        if self.start is None and self.nbytes > max(_UNPACKED_BYTES, _UNPACKED_RATIO * self.stored_bytes):
            raise NcsnxError(
                f"{self.title}: {counted(self.stored_bytes, 'byte')} would unpack to {self}, more than "
                f"{_UNPACKED_RATIO}-fold; save it without compression, with numpy.savez or numpy.save"
            )
        available = available_memory()
        if copies * self.nbytes > available // SHARE:
            raise NcsnxError(
                f"{self.title}: declares {self}, but at most {available // SHARE // copies:,} are read into memory "
                f"here, of {counted(available, 'byte')} available"
            )


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
    """Number of copies that must fit in memory; 0: the array isn't read."""
    advice: str = ""
    """Advice for arrays of another shape, appended to the message."""

    def require(self, header: ArrayHeader) -> None:
        """Raises NcsnxError, with the expected and the declared array, if `header` doesn't match."""
        fits = header.dtype.kind in self.kinds and any(_fits(header.shape, shape) for shape in self.shapes)
        if not fits:
            raise NcsnxError(f"{header.title}: expected {self}, found {header}{self.advice}")
        if self.copies:
            header.require_memory(self.copies)

    def __str__(self) -> str:
        return f"{self.what} of shape {' or '.join(map(_in_words, self.shapes))}"


@attrs.frozen
class NumpyFile:
    """A `.npy` or `.npz` file, of which only the array names have been read."""

    path: Path
    names: tuple[str, ...] | None
    """Names of the arrays of a `.npz`; None for a `.npy`, whose one array has no name."""

    @classmethod
    def open(cls, path: Path) -> "NumpyFile":
        """Reads the array names. Raises NcsnxError for other files, and for a file that can't be read."""
        with opened_arrays(path) as file:
            begin = file.read(len(NPY_MAGIC))
            if begin == NPY_MAGIC:
                return cls(path, None)
            if not begin.startswith(ZIP_MAGIC):
                raise NcsnxError(f"{in_utf8(path)}: expected a .npy or .npz file, found something else")
            with _reporting(in_utf8(path)), open_zip(file, FEW) as archive:
                names = [_array_name(member) for member in archive.infolist()]
        name, times = Counter(names).most_common(1)[0] if names else ("", 0)
        if times > 1:
            raise NcsnxError(
                f"{in_utf8(path)}: holds {counted(times, 'array')} called {array_name(name)}; save it again"
            )
        return cls(path, tuple(names))

    def header(self, name: str | None = None) -> ArrayHeader:
        """The header of an array. Raises NcsnxError unless it is a plain array whose size matches the file."""
        with opened_arrays(self.path) as file, self._values(file, name) as (header, _):
            return header

    def read(self, name: str | None = None) -> NDArray[Any]:
        """The array in memory. Raises NcsnxError."""
        with opened_arrays(self.path) as file, self._values(file, name) as (header, stream):
            header.require_memory()
            stream.seek(0)
            with _unwarned():
                values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return values

    def mapped(self, name: str | None = None) -> NDArray[Any]:
        """The array, memory-mapped; a compressed array is read. Raises NcsnxError."""
        with opened_arrays(self.path) as file, self._values(file, name) as (header, _):
            if header.start is not None and header.nbytes > 0:
                order: Literal["C", "F"] = "F" if header.fortran_order else "C"
                # NumPy's type stubs don't accept an open file
                return np.memmap(cast("Any", file), header.dtype, "r", header.start, header.shape, order)
        return self.read(name)

    @contextmanager
    def _values(self, file: BufferedReader, name: str | None) -> Iterator[tuple[ArrayHeader, IO[bytes]]]:
        """The header of an array, and the stream of the array's bytes."""
        title = in_utf8(self.path) if name is None else f"{in_utf8(self.path)}, array {array_name(name)}"
        with _reporting(title):
            if name is None:
                size = os.fstat(file.fileno()).st_size
                file.seek(0)
                yield _parsed(title, file, size, 0, size), file
                return
            with open_zip(file, FEW) as archive:
                member = next(member for member in archive.infolist() if _array_name(member) == name)
                start = _start(file, member)
                with archive.open(member) as stream:
                    yield _parsed(title, stream, member.file_size, start, member.compress_size), stream


def read_arrays(
    path: Path, expected: Mapping[str, ExpectedArray], how: str, *, ignored: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """The expected arrays of a `.npz` by name.

    how: advice on saving such a file. ignored: names that are allowed but not read. Raises NcsnxError for any other
    array before reading values: an unknown array may change the meaning of the others.
    """
    file = require_arrays(path, expected, how, ignored=ignored)
    return {name: file.read(name) for name in expected if name in (file.names or ())}


def require_arrays(
    path: Path, expected: Mapping[str, ExpectedArray], how: str, *, ignored: Collection[str] = ()
) -> NumpyFile:
    """The `.npz` file, with names and headers checked and no values read. Raises NcsnxError as `read_arrays`."""
    file = NumpyFile.open(path)
    require_named(file, expected, how, ignored=ignored)
    return file


class NamedArrays(Protocol):
    """A file of arrays, of which only the names have been read."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the arrays; None for a format whose one array has no name."""

    def header(self, name: str | None = None) -> ArrayHeader:
        """The header of an array. Raises NcsnxError unless it is a plain array of numbers."""


def require_named(
    file: NamedArrays,
    expected: Mapping[str, ExpectedArray],
    how: str,
    *,
    ignored: Collection[str] = (),
    of: str = "a .npz with ",
    nameless: str = "a .npy, which holds one array",
) -> None:
    """Raises NcsnxError unless the file holds the expected arrays and no others, as `read_arrays` says.

    of, nameless: the expected file, and one whose array has no name, for messages.
    """
    place = in_utf8(file.path)
    optional = [name for name, array in expected.items() if array.optional]
    required = [name for name in expected if name not in optional]
    accepted = f"the arrays {' and '.join(required)}" + (f" (optional: {', '.join(optional)})" if optional else "")
    if file.names is None:
        raise NcsnxError(f"{place}: expected {of}{accepted}, found {nameless}; {how}")
    unknown = [name for name in file.names if name not in expected and name not in ignored]
    missing = [name for name in required if name not in file.names]
    if unknown or missing:
        wrong = [f"{' and '.join(missing)} {_be(missing)} missing"] if missing else []
        wrong += [f"{listed(unknown)} {_be(unknown)} not understood"] if unknown else []
        raise NcsnxError(f"{place}: expected {accepted}, found {listed(file.names)}: {', and '.join(wrong)}; {how}")
    for name in expected:
        if name in file.names:
            expected[name].require(file.header(name))


def array_file_sha256(path: Path) -> str:
    """The sha256 (hexadecimal) of the whole file. Raises NcsnxError if it can't be read."""
    with opened_arrays(path) as file:
        return sha256(file)


def _be(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


def listed(names: Collection[str]) -> str:
    """Names of arrays, for messages."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(array_name, list(names)[:_MOST_NAMED])) + more or "none"


def array_name(name: str) -> str:
    """An untrusted array name, for messages."""
    return name if name.isascii() and name.isidentifier() and len(name) <= 80 else shortened(ascii(name))


def _parsed(title: str, stream: IO[bytes], size: int, start: int | None, stored_bytes: int) -> ArrayHeader:
    """The header of a `.npy` of `size` bytes. start: its offset in the file; None if it is compressed."""
    head = io.BytesIO(stream.read(_HEADER_BYTES))
    with _unwarned():
        version = np.lib.format.read_magic(head)
        # version 3 only adds field names in UTF-8, and plain arrays have no fields
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if version not in _VERSIONS:
            raise ValueError(f"the .npy version {version[0]}.{version[1]} is unknown")
        shape, fortran_order, dtype = read(head)
    if dtype.hasobject:
        raise NcsnxError(f"{title}: holds Python objects, which are never unpickled; save it as numbers")
    if dtype.fields is not None or dtype.subdtype is not None:
        raise NcsnxError(f"{title}: holds records of {shortened(str(dtype))}; save each field as a separate array")
    place = None if start is None else start + head.tell()
    header = ArrayHeader.checked(title, tuple(shape), dtype, place, stored_bytes, fortran_order=fortran_order)
    if size - head.tell() != header.nbytes:
        raise NcsnxError(
            f"{title}: declares {header}, but holds {counted(size - head.tell(), 'byte')}; get a complete copy"
        )
    return header


def _start(file: BufferedReader, member: zipfile.ZipInfo) -> int | None:
    """Offset in the file of a zip member's first byte; None for a compressed member."""
    if member.flag_bits & 0x1 or member.compress_type not in _METHODS:
        raise ValueError("it is encrypted, or compressed with another method than deflate")
    is_stored = member.compress_type == zipfile.ZIP_STORED
    file.seek(member.header_offset)
    mark, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start: int = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    size = os.fstat(file.fileno()).st_size
    fits = start + member.compress_size <= size and (member.compress_size == member.file_size or not is_stored)
    if mark != _MEMBER_MAGIC or not fits:
        raise zipfile.BadZipFile("an offset or a size in it is wrong")
    return start if is_stored else None


def _array_name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _fits(shape: tuple[int, ...], expected: tuple[int | str, ...]) -> bool:
    return len(shape) == len(expected) and all(
        axis == wanted or (isinstance(wanted, str) and axis > 0) for axis, wanted in zip(shape, expected, strict=True)
    )


def _in_words(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


@contextmanager
def _unwarned() -> Iterator[None]:
    """Silences NumPy's warnings about headers written by Python 2, which can be read anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def opened_arrays(path: Path) -> Iterator[BufferedReader]:
    """A regular file, opened and closed again. Raises NcsnxError if it's empty or can't be read."""
    try:
        with opened(path, follows_links=True) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise NcsnxError(f"{in_utf8(path)}: is empty; get a complete copy")
            yield file
    except OSError as error:
        raise NcsnxError(f"{in_utf8(path)}: cannot be read: {error.strerror or error}") from error


@contextmanager
def reporting_damage(title: str, form: str, *, passed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns errors in reading an untrusted file into NcsnxErrors.

    form: what a valid file is, such as 'HDF5 file'. passed: errors that stay as they are.
    """
    kept: tuple[type[Exception], ...] = (NcsnxError, *passed)
    try:
        yield
    except kept:
        raise
    except MemoryError as error:
        raise NcsnxError(f"{title}: does not fit in memory") from error
    # a damaged file makes the libraries raise almost anything
    except Exception as error:
        reason = shortened(" ".join(str(error).split())) or type(error).__name__
        raise NcsnxError(f"{title}: is not a valid {form}: {reason}; get a complete copy, or save it again") from error


def _reporting(title: str) -> AbstractContextManager[None]:
    """Damage of a `.npy` or `.npz`, for `opened_arrays`, which says what can't be read at all."""
    return reporting_damage(title, ".npy or .npz", passed=(OSError,))
