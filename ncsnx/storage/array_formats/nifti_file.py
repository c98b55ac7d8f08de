"""Safe reading of untrusted NIfTI files (`.nii`, `.nii.gz`, versions 1 and 2): one array, with its scale applied.

nibabel parses the header alone. The values of a `.nii` are memory-mapped; a `.nii.gz` is unpacked, as far as its header
declares and memory allows. Pairs of `.hdr` and `.img` and the extensions of the header aren't read.
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.array_formats.array_file import LazyArray, require_extra
from ncsnx.storage.numpy_files import COMPLEX, REAL, ArrayHeader, opened_arrays, reporting_damage
from ncsnx.storage.process import in_utf8

GZIP_MAGIC = b"\x1f\x8b"
"""The first bytes of a `.nii.gz`."""
_MAGICS = {b"n+1\0": (344, 348), b"n+2\0": (4, 540)}  # magic → its place, and the size of the header
_HEADER_BYTES = 540
_MOST_OFFSET = 2**26  # bytes before the values: of extensions, which are skipped
_PIECE_BYTES = 2**22


def is_nifti(path: Path) -> bool:
    """Whether a file has the header of a NIfTI, packed by gzip or not. Raises NcsnxError if it can't be opened."""
    try:
        with opened_arrays(path) as file, _unpacked(file) as (stream, _):
            return _kind(stream.read(_HEADER_BYTES)) is not None
    except (EOFError, OSError, ValueError, zlib.error):
        return False


@attrs.frozen
class _Found:
    header: ArrayHeader
    stored: "np.dtype[Any]"
    """Type in the file."""
    offset: int
    """Place of the values in the unpacked file."""
    slope: float
    inter: float

    @property
    def is_scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)

    def scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values as the header scales them."""
        if not self.is_scaled:
            return values.astype(self.header.dtype, copy=False)
        wide = values.astype(np.result_type(values.dtype, np.float64))
        return (wide * self.slope + self.inter).astype(self.header.dtype)


@attrs.frozen
class NiftiFile:
    """A NIfTI file. Its one array has no name."""

    path: Path
    names: None = None

    @classmethod
    def open(cls, path: Path) -> "NiftiFile":
        """Checks the header. Raises NcsnxError for other files, and without nibabel."""
        require_extra(path, "nibabel", "NIfTI")
        file = cls(path)
        file.header()
        return file

    def header(self, name: str | None = None) -> ArrayHeader:
        """The header, without axes of length 1 at the end. Raises NcsnxError unless the file holds numbers."""
        with self._values() as (found, _):
            return found.header

    def read(self, name: str | None = None) -> NDArray[Any]:
        """The array in memory. Raises NcsnxError."""
        with self._values() as (found, stream):
            found.header.require_memory(2 if found.is_scaled else 1)
            _skip(stream, found.offset)
            count = math.prod(found.header.shape)
            content = _read(stream, count * found.stored.itemsize)
            values = np.frombuffer(content, found.stored, count).reshape(found.header.shape, order="F")
            return found.scaled(values)

    def mapped(self, name: str | None = None) -> LazyArray:
        """The array, memory-mapped; a `.nii.gz` is read. Raises NcsnxError."""
        with self._values() as (found, _):
            if found.header.start is None or found.header.nbytes == 0:
                return self.read()
            shape = found.header.shape
            mapped = np.memmap(self.path, found.stored, "r", found.offset, shape, "F")
            return _Scaled(found, mapped) if found.is_scaled or not found.stored.isnative else mapped

    @contextmanager
    def _values(self) -> Iterator[tuple[_Found, IO[bytes]]]:
        """The header, and the unpacked file from its beginning."""
        title = in_utf8(self.path)
        with (
            opened_arrays(self.path) as file,
            reporting_damage(title, "NIfTI file"),
            _unpacked(file) as (stream, is_packed),
        ):
            size = os.fstat(file.fileno()).st_size
            found = _parsed(title, stream.read(_HEADER_BYTES), size, is_packed)
            stream.seek(0)
            yield found, stream


@attrs.frozen(eq=False)
class _Scaled:
    """A memory-mapped array whose values are scaled where it is indexed."""

    found: _Found
    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        return self.found.scaled(self.values[key])


@contextmanager
def _unpacked(file: BufferedReader) -> Iterator[tuple[IO[bytes], bool]]:
    """The file's stream, unpacked, and whether it is packed."""
    is_packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    file.seek(0)
    if not is_packed:
        yield file, False
        return
    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        yield cast("IO[bytes]", stream), True


def _kind(begin: bytes) -> int | None:
    """The size of the header that begins with these bytes; None if it isn't a NIfTI's."""
    sizes = (size for magic, (place, size) in _MAGICS.items() if begin[place : place + len(magic)] == magic)
    return next((size for size in sizes if len(begin) >= size), None)


def _parsed(title: str, begin: bytes, size: int, is_packed: bool) -> _Found:
    """The header of a file of `size` bytes, which is packed or not."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    length = _kind(begin)
    if length is None:
        raise ValueError("its header has another magic number (pairs of .hdr and .img are not read)")
    kind: Any = Nifti1Header if length == 348 else Nifti2Header  # without types
    parsed = kind(begin[:length], check=False)
    stored, shape = parsed.get_data_dtype(), tuple(map(int, parsed.get_data_shape()))
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    if stored.names or stored.kind not in REAL + COMPLEX or stored.itemsize > (16 if stored.kind == "c" else 8):
        raise NcsnxError(f"{title}: expected real or complex numbers of up to 64 bits, found {stored}; convert it")
    slope, inter = (default if part is None else float(part) for part, default in _scaling(parsed))
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise ValueError("it scales by numbers that are not finite")
    offset = float(parsed["vox_offset"])
    if not length <= offset <= _MOST_OFFSET:
        raise ValueError(f"its values begin at byte {offset:g}")
    is_scaled = (slope, inter) != (1.0, 0.0)
    dtype = np.dtype(np.complex64 if stored.kind == "c" else np.float32) if is_scaled else stored.newbyteorder("=")
    header = ArrayHeader.checked(title, shape, dtype, None if is_packed else int(offset), size, fortran_order=True)
    needed = int(offset) + math.prod(shape) * stored.itemsize
    if not is_packed and needed > size:
        raise NcsnxError(f"{title}: declares {header}, but holds {counted(size, 'byte')}; get a complete copy")
    return _Found(header, stored, int(offset), slope, inter)


def _scaling(parsed: Any) -> Iterator[tuple[float | None, float]]:
    """Slope and offset as declared, each with the default of NIfTI."""
    slope, inter = parsed.get_slope_inter()
    yield slope, 1.0
    yield inter, 0.0


def _skip(stream: IO[bytes], count: int) -> None:
    _read(stream, count)


def _read(stream: IO[bytes], count: int) -> bytearray:
    """Exactly `count` bytes; memory is taken as they come."""
    content = bytearray()
    while len(content) < count:
        piece = stream.read(min(_PIECE_BYTES, count - len(content)))
        if not piece:
            raise ValueError(f"it declares {counted(count, 'byte')} of values, and holds {len(content):,}")
        content += piece
    return content
