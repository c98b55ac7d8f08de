"""Safe reading of untrusted MATLAB files, versions 5 to 7.2 (`save -v6`, `-v7`): variables of numbers, full arrays.

After "MAT-File Format" (MathWorks, R2023b), level 5: a header of 128 bytes, then one element per variable, which may be
packed by zlib. A variable has flags, dimensions, a name, real parts and perhaps imaginary parts, which may be stored in
a smaller type than the variable's. Values that aren't packed are memory-mapped. Cells, structures, text, sparse arrays
and objects aren't read. MATLAB 7.3 writes HDF5: see `hdf5_file`.

Why not `scipy.io.loadmat`: it looks up the type of a variable's values in a table of 20 without checking the number, so
that a single wrong byte ends the whole process by a segmentation fault (SciPy 1.17.1: savemat({"x": numpy.eye(4)}) with
type 20 instead of 9 in the tag of the values), and an element that is packed is unpacked up to the 4 GiB that its tag
declares, whatever the variable's dimensions. `whosmat` doesn't say whether a variable is complex, either. The tests
compare this reader with files that SciPy writes.
"""

import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.array_formats.array_file import LazyArray
from ncsnx.storage.numpy_files import ArrayHeader, array_name, listed, opened_arrays, reporting_damage
from ncsnx.storage.process import in_utf8

MATLAB_HEADER = 128
"""Bytes of the file's header."""
_MATRIX, _PACKED, _FLAGS, _DIMENSIONS = 14, 15, 6, 5
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = dict(zip(range(6, 16), ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), strict=True))
_OTHER_CLASSES = {1: "a cell array", 2: "a structure", 3: "an object", 4: "text", 5: "a sparse array"}
_COMPLEX_FLAG = 0x0800
_MOST_AXES, _MOST_NAME_BYTES, _MOST_VARIABLES = 64, 4_096, 10_000
_PIECE_BYTES = 2**16

Read = Callable[[int], bytes]
"""Returns exactly so many further bytes. Raises ValueError where there are fewer."""


def is_matlab_5(begin: bytes) -> bool:
    """Whether a file that begins with these bytes, at least 128, is MATLAB's of version 5 to 7.2."""
    return begin[124:MATLAB_HEADER] in (b"\x00\x01IM", b"\x01\x00MI")


@attrs.frozen
class _Variable:
    """The beginning of a variable, up to its values."""

    name: str
    class_code: int
    is_complex: bool
    shape: tuple[int, ...]


@attrs.frozen
class _Place:
    """A variable in the file."""

    variable: _Variable
    begin: int
    """Place of the element's content in the file."""
    size: int
    """Bytes of the content."""
    is_packed: bool


@attrs.frozen
class MatlabFile:
    """A MATLAB file, of which only the beginnings of its variables have been read."""

    path: Path
    order: str
    """'<' or '>', the byte order."""
    places: tuple[_Place, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables that hold numbers."""
        return tuple(place.variable.name for place in self.places if place.variable.class_code in _CLASSES)

    @classmethod
    def open(cls, path: Path) -> "MatlabFile":
        """Reads the names. Raises NcsnxError for other files."""
        with opened_arrays(path) as file, reporting_damage(in_utf8(path), "MATLAB file"):
            begin = file.read(MATLAB_HEADER)
            if not is_matlab_5(begin):
                raise ValueError("its header is of another version")
            order = "<" if begin.endswith(b"IM") else ">"
            places = tuple(_places(file, order))
        name, times = Counter(place.variable.name for place in places).most_common(1)[0] if places else ("", 0)
        if times > 1:
            raise NcsnxError(
                f"{in_utf8(path)}: holds {counted(times, 'array')} called {array_name(name)}; save it again"
            )
        return cls(path, order, places)

    def header(self, name: str | None = None) -> ArrayHeader:
        """The header of a variable. Raises NcsnxError unless it holds numbers."""
        place = self._place(name)
        dtype = _dtype_of(place.variable)
        start = None if place.is_packed else place.begin
        return ArrayHeader.checked(
            self._title(name), place.variable.shape, dtype, start, place.size, fortran_order=True
        )

    def read(self, name: str | None = None) -> NDArray[Any]:
        """The array in memory. Raises NcsnxError."""
        header, place = self.header(name), self._place(name)
        header.require_memory(2)
        with opened_arrays(self.path) as file, reporting_damage(header.title, "MATLAB file"):
            read = _reader(file, place)
            _variable(read, self.order)
            parts = [_part(read, self.order, place.variable) for _ in range(1 + place.variable.is_complex)]
        return _joined(parts, header.dtype)

    def mapped(self, name: str | None = None) -> LazyArray:
        """The array, memory-mapped; a packed one is read. Raises NcsnxError."""
        header, place = self.header(name), self._place(name)
        if place.is_packed or header.nbytes == 0:
            return self.read(name)
        with opened_arrays(self.path) as file, reporting_damage(header.title, "MATLAB file"):
            read = _reader(file, place)
            _variable(read, self.order)
            parts = []
            for _ in range(1 + place.variable.is_complex):
                dtype, size, inside = _part_header(read, self.order, place.variable)
                start = file.tell()
                if size > place.begin + place.size - start:
                    raise ValueError("its values are incomplete")
                parts.append(
                    _shaped(inside, dtype, place.variable)
                    if inside is not None
                    else np.memmap(self.path, dtype, "r", start, place.variable.shape, "F")
                )
                if inside is None:
                    file.seek(_padded(size), os.SEEK_CUR)
        return _Joined(parts, header.dtype)

    def _place(self, name: str | None) -> _Place:
        found = next((place for place in self.places if place.variable.name == name), None)
        if found is None:
            raise NcsnxError(f"{self._title(name)}: is not there; the file holds {listed(self.names)}")
        if found.variable.class_code not in _CLASSES:
            kind = _OTHER_CLASSES.get(found.variable.class_code, "an object")
            raise NcsnxError(f"{self._title(name)}: expected an array of numbers, found {kind}; save it as numbers")
        return found

    def _title(self, name: str | None) -> str:
        return f"{in_utf8(self.path)}, array {array_name(name or '')}"


@attrs.frozen(eq=False)
class _Joined:
    """Memory-mapped real and perhaps imaginary parts, which are joined where they are indexed."""

    parts: list[NDArray[Any]]
    dtype: "np.dtype[Any]"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0].shape

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        return _joined([np.asarray(part[key]) for part in self.parts], self.dtype)


def _joined(parts: list[NDArray[Any]], dtype: "np.dtype[Any]") -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0].astype(dtype)
    joined = np.empty(parts[0].shape, dtype)
    joined.real, joined.imag = parts
    return joined


def _dtype_of(variable: _Variable) -> "np.dtype[Any]":
    dtype = np.dtype(_CLASSES[variable.class_code])
    return np.result_type(dtype, np.complex64) if variable.is_complex else dtype


def _places(file: BufferedReader, order: str) -> Iterator[_Place]:
    """The variables of a file whose header has been read."""
    size = os.fstat(file.fileno()).st_size
    begin = MATLAB_HEADER
    for _ in range(_MOST_VARIABLES):
        file.seek(begin)
        tag = file.read(8)
        if not tag:
            return
        kind, length = struct.unpack(f"{order}2I", tag) if len(tag) == 8 else (0, 0)
        if kind not in (_MATRIX, _PACKED) or length > size - begin - 8:
            raise ValueError(f"it is truncated or damaged at byte {begin:,}")
        place = _Place(_Variable("", 0, False, ()), begin + 8, length, kind == _PACKED)
        variable = _variable(_reader(file, place), order)
        if variable.name:  # those without a name hold what belongs to functions
            # a matrix in a packed element has a tag of its own
            yield attrs.evolve(place, variable=variable)
        begin += 8 + length
    raise ValueError(f"it holds more than {_MOST_VARIABLES:,} variables")


def _reader(file: BufferedReader, place: _Place) -> Read:
    """Reads the element's content from its beginning, unpacked."""
    file.seek(place.begin)
    end = place.begin + place.size

    def plain(count: int) -> bytes:
        content = file.read(min(count, max(0, end - file.tell())))
        if len(content) < count:
            raise ValueError("a variable is incomplete")
        return content

    if not place.is_packed:
        return plain
    unpack = zlib.decompressobj()
    waiting = b""

    def unpacked(count: int) -> bytes:
        nonlocal waiting
        content = bytearray()
        while len(content) < count:
            waiting = waiting or file.read(min(_PIECE_BYTES, max(0, end - file.tell())))
            piece = unpack.decompress(waiting, count - len(content))
            waiting = unpack.unconsumed_tail
            if not piece and not waiting and file.tell() >= end:
                raise ValueError("a variable is incomplete")
            content += piece
        return bytes(content)

    unpacked(8)  # the matrix's own tag
    return unpacked


def _variable(read: Read, order: str) -> _Variable:
    """Flags, dimensions and name."""
    kind, flags = _element(read, order, 8)
    if kind != _FLAGS or len(flags) != 8:
        raise ValueError("the flags of a variable are damaged")
    (word,) = struct.unpack_from(f"{order}I", flags)
    if word & 0xFF > 15:  # an object of newer classes, laid out otherwise
        return _Variable("", word & 0xFF, False, ())
    kind, content = _element(read, order, 4 * _MOST_AXES)
    shape = struct.unpack(f"{order}{len(content) // 4}i", content) if len(content) % 4 == 0 else ()
    if kind != _DIMENSIONS or len(shape) < 2 or min(shape) < 0:
        raise ValueError("the dimensions of a variable are damaged")
    _, name = _element(read, order, _MOST_NAME_BYTES)
    return _Variable(name.decode("utf-8", "backslashreplace"), word & 0xFF, bool(word & _COMPLEX_FLAG), shape)


def _element(read: Read, order: str, most: int) -> tuple[int, bytes]:
    """(type, content) of an element of at most `most` bytes."""
    kind, length, inside = _tag(read, order)
    if inside is not None:
        return kind, inside
    if length > most:
        raise ValueError(f"a part of a variable has {counted(length, 'byte')}, of at most {most:,}")
    return kind, read(_padded(length))[:length]


def _tag(read: Read, order: str) -> tuple[int, int, bytes | None]:
    """(type, bytes, content) of an element; the content only if it is in the tag."""
    tag = read(8)
    kind, length = struct.unpack(f"{order}2I", tag)
    if kind >> 16:
        if kind >> 16 > 4:
            raise ValueError("a tag is damaged")
        return kind & 0xFFFF, kind >> 16, tag[4 : 4 + (kind >> 16)]
    return kind, length, None


def _part_header(read: Read, order: str, variable: _Variable) -> tuple["np.dtype[Any]", int, bytes | None]:
    """(type, bytes, content) of the real or imaginary parts; the content only if it is in the tag."""
    kind, length, inside = _tag(read, order)
    if kind not in _STORED:
        raise ValueError("its values have an unknown type")
    dtype = np.dtype(order + _STORED[kind])
    count = int(np.prod(variable.shape, dtype=object))
    if count * dtype.itemsize != length:
        raise ValueError(f"it declares {counted(count, 'value')}, but holds {length // dtype.itemsize:,}")
    return dtype, length, inside


def _part(read: Read, order: str, variable: _Variable) -> NDArray[Any]:
    dtype, length, inside = _part_header(read, order, variable)
    return _shaped(read(_padded(length))[:length] if inside is None else inside, dtype, variable)


def _shaped(content: bytes, dtype: "np.dtype[Any]", variable: _Variable) -> NDArray[Any]:
    return np.frombuffer(content, dtype).reshape(variable.shape, order="F")


def _padded(length: int) -> int:
    return -(-length // 8) * 8
