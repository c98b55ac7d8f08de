"""`.npy` and `.npz` files that anybody may have made: headers are read first, and values only where they are wanted.

A header of a hundred bytes may declare terabytes, and a small archive may unpack to them. So a reader asks for the
header, compares name, shape and type with what it takes, and only then reads the values: those that lie in the file as
they are (a `.npy`, or a `.npz` without compression) can be mapped into memory, and compressed ones are unpacked as far
as memory allows. Only regular files are opened, and nothing is unpickled.
"""

import io
import math
import os
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Literal, cast

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
"""Kinds of NumPy's types: real numbers, truth values among them, and complex ones."""

_HEADER_BYTES = 2**16  # NumPy writes some hundred, and refuses more than 10,000 characters
_VERSIONS = ((1, 0), (2, 0), (3, 0))
_MOST_AXES = 64
_MOST_NAMED = 8
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # what a zip writes before a member: mark, length of the name, of extras
_MEMBER_MAGIC = b"PK\3\4"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that NumPy writes, which are unpacked within a bound
_UNPACKED_BYTES, _UNPACKED_RATIO = 64 * 2**20, 200  # as for pictures in a zip: beyond both it is a bomb


@attrs.frozen
class ArrayHeader:
    """What a file declares of an array."""

    title: str
    """The file, and the array in it, for messages."""
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    fortran_order: bool
    start: int | None
    """Place in the file of the first value; None where the values are compressed."""
    stored_bytes: int
    """Bytes in the file, compressed or not."""

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape} ({counted(self.nbytes, 'byte')})"

    def require_memory(self, copies: int = 1) -> None:
        """Raises NcsnxError unless the values fit in memory so many times, and aren't a decompression bomb."""
        if self.start is None and self.nbytes > max(_UNPACKED_BYTES, _UNPACKED_RATIO * self.stored_bytes):
            raise NcsnxError(
                f"{self.title}: {counted(self.stored_bytes, 'byte')} would unpack to {self}, and no more than "
                f"{_UNPACKED_RATIO}-fold is unpacked; save it without compression, with numpy.savez or numpy.save"
            )
        available = available_memory()
        if copies * self.nbytes > available // SHARE:
            raise NcsnxError(
                f"{self.title}: declares {self}, and {available // SHARE // copies:,} is the most that is read into "
                f"memory here, of {counted(available, 'byte')} that are free"
            )


@attrs.frozen
class ExpectedArray:
    """What a reader takes under a name."""

    what: str
    """In words, such as 'real numbers'."""
    kinds: str
    """Letters of the NumPy types that it may have (`dtype.kind`)."""
    shapes: tuple[tuple[int | str, ...], ...]
    """Accepted shapes; a letter stands for any size but 0."""
    optional: bool = False
    copies: int = 1
    """How often it must fit in memory; 0: it isn't read."""
    advice: str = ""
    """What to do about another shape, for the message."""

    def require(self, header: ArrayHeader) -> None:
        """Raises NcsnxError that names what was declared and what was expected."""
        fits = header.dtype.kind in self.kinds and any(_fits(header.shape, shape) for shape in self.shapes)
        if not fits:
            raise NcsnxError(f"{header.title}: expected {self}, found {header}{self.advice}")
        if self.copies:
            header.require_memory(self.copies)

    def __str__(self) -> str:
        return f"{self.what} of shape {' or '.join(map(_in_words, self.shapes))}"


@attrs.frozen
class NumpyFile:
    """A `.npy` or `.npz`, of which nothing but the names has been read."""

    path: Path
    names: tuple[str, ...] | None
    """Names of the arrays of a `.npz`; None for a `.npy`, whose one array has no name."""

    @classmethod
    def open(cls, path: Path) -> "NumpyFile":
        """Raises NcsnxError for a file that can't be read, or is neither."""
        with _opened(path) as file:
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
        """What the file declares of the array. Raises NcsnxError for what isn't a plain array of so many bytes."""
        with _opened(self.path) as file, self._values(file, name) as (header, _):
            return header

    def read(self, name: str | None = None) -> NDArray[Any]:
        """The array in memory. Raises NcsnxError."""
        with _opened(self.path) as file, self._values(file, name) as (header, stream):
            header.require_memory()
            stream.seek(0)
            with _unwarned():
                values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return values

    def mapped(self, name: str | None = None) -> NDArray[Any]:
        """The array, mapped into memory; one that is compressed is read. Raises NcsnxError."""
        with _opened(self.path) as file, self._values(file, name) as (header, _):
            if header.start is not None and header.nbytes > 0:
                order: Literal["C", "F"] = "F" if header.fortran_order else "C"
                # the opened file has no fileno in NumPy's types
                return np.memmap(cast("Any", file), header.dtype, "r", header.start, header.shape, order)
        return self.read(name)

    @contextmanager
    def _values(self, file: BufferedReader, name: str | None) -> Iterator[tuple[ArrayHeader, IO[bytes]]]:
        """The header of an array, and the stream that it begins."""
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
    """The arrays of a `.npz` by name, each as expected.

    how: to save such a file. ignored: further names that are known and not read. Raises NcsnxError for any other array,
    before a value is read: nobody can tell what the arrays mean beside one that isn't understood.
    """
    file = require_arrays(path, expected, how, ignored=ignored)
    return {name: file.read(name) for name in expected if name in (file.names or ())}


def require_arrays(
    path: Path, expected: Mapping[str, ExpectedArray], how: str, *, ignored: Collection[str] = ()
) -> NumpyFile:
    """The `.npz`, of which nothing but names and headers was read. Raises NcsnxError as `read_arrays`."""
    file, place = NumpyFile.open(path), in_utf8(path)
    optional = [name for name, array in expected.items() if array.optional]
    required = [name for name in expected if name not in optional]
    accepted = f"the arrays {' and '.join(required)}" + (f" (optional: {', '.join(optional)})" if optional else "")
    if file.names is None:
        raise NcsnxError(f"{place}: expected a .npz with {accepted}, found a .npy, which holds one array; {how}")
    unknown = [name for name in file.names if name not in expected and name not in ignored]
    missing = [name for name in required if name not in file.names]
    if unknown or missing:
        wrong = [f"{' and '.join(missing)} {_be(missing)} missing"] if missing else []
        wrong += [f"{listed(unknown)} {_be(unknown)} not understood"] if unknown else []
        raise NcsnxError(f"{place}: expected {accepted}, found {listed(file.names)}: {', and '.join(wrong)}; {how}")
    for name in expected:
        if name in file.names:
            expected[name].require(file.header(name))
    return file


def array_file_sha256(path: Path) -> str:
    """The sha256 of the whole file, in hexadecimal. Raises NcsnxError where it can't be read."""
    with _opened(path) as file:
        return sha256(file)


def _be(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


def listed(names: Collection[str]) -> str:
    """Names of arrays, for a message."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(array_name, list(names)[:_MOST_NAMED])) + more or "none"


def array_name(name: str) -> str:
    """A name that somebody gave an array, for a message."""
    return name if name.isascii() and name.isidentifier() and len(name) <= 80 else shortened(ascii(name))


def _parsed(title: str, stream: IO[bytes], size: int, start: int | None, stored_bytes: int) -> ArrayHeader:
    """The header of a `.npy` of `size` bytes. start: its place in the file, unless it is compressed there."""
    head = io.BytesIO(stream.read(_HEADER_BYTES))
    with _unwarned():
        version = np.lib.format.read_magic(head)
        # the third version has names of fields in UTF-8, and no plain array has fields
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if version not in _VERSIONS:
            raise ValueError(f"version {version[0]}.{version[1]} of .npy is not known")
        shape, fortran_order, dtype = read(head)
    if dtype.hasobject:
        raise NcsnxError(f"{title}: holds Python objects, which are never unpickled; save it as numbers")
    if dtype.fields is not None or dtype.subdtype is not None:
        raise NcsnxError(f"{title}: holds records of {shortened(str(dtype))}; save each field as an array of its own")
    is_possible = len(shape) <= _MOST_AXES and all(0 <= axis < 2**63 for axis in shape)  # a 0 would hide a large one
    if not is_possible or math.prod(shape) * dtype.itemsize >= 2**63:
        raise NcsnxError(f"{title}: declares the shape {quoted(tuple(shape))}, which no array has; save it again")
    place = None if start is None else start + head.tell()
    header = ArrayHeader(title, tuple(map(int, shape)), dtype, fortran_order, place, stored_bytes)
    if size - head.tell() != header.nbytes:
        raise NcsnxError(
            f"{title}: declares {header}, and {counted(size - head.tell(), 'byte')} follow; get a complete copy"
        )
    return header


def _start(file: BufferedReader, member: zipfile.ZipInfo) -> int | None:
    """The place in the file of the first byte of a member of a zip; None where it is compressed."""
    if member.flag_bits & 0x1 or member.compress_type not in _METHODS:
        raise ValueError("it is encrypted, or compressed by another method than deflate")
    is_stored = member.compress_type == zipfile.ZIP_STORED
    file.seek(member.header_offset)
    mark, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start: int = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    size = os.fstat(file.fileno()).st_size
    fits = start + member.compress_size <= size and (member.compress_size == member.file_size or not is_stored)
    if mark != _MEMBER_MAGIC or not fits:
        raise zipfile.BadZipFile("a place or a size in it is wrong")
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
    """Without NumPy's warnings about headers that Python 2 wrote, which are read all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with opened(path, follows_links=True) as file:
            yield file
    except OSError as error:
        raise NcsnxError(f"{in_utf8(path)}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _reporting(title: str) -> Iterator[None]:
    """Whatever goes wrong in reading what somebody else made, as one line about it."""
    try:
        yield
    except (NcsnxError, OSError):
        raise
    except MemoryError as error:
        raise NcsnxError(f"{title}: does not fit in memory") from error
    # a damaged file makes zipfile, zlib and NumPy raise almost anything
    except Exception as error:
        reason = shortened(" ".join(str(error).split())) or type(error).__name__
        raise NcsnxError(
            f"{title}: is not a valid .npy or .npz: {reason}; get a complete copy, or save it again"
        ) from error
