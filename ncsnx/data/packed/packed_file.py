"""Packed data sets: one memory-mapped file of decoded images, so that training reads without decoding.

    0     8 bytes      MAGIC
    8     8 bytes      length of the header
    16    32 bytes     sha256 of header and checksums; its hexadecimal form is the data set's fingerprint
    48    header       UTF-8 JSON: `PackedHeader`
    then  checksums    32 bytes per chunk: sha256 of its pixels, labels and ids, in this order
    then  pixels       N×C×H×W of the header's dtype, uint8 unless unbounded; the training images first, then the others
    then  labels       N int64, NO_LABEL for unlabelled images
    then  ids          N int64, each image's index in the whole data set

Integers are little-endian. Pixels, labels and ids begin at multiples of 4,096 bytes, padded with zeros. A chunk has
`chunk_images` images, the last chunk possibly fewer. The fingerprint covers every pixel through the checksums. The file
size follows from the header, so opening detects a truncated file; `damage` detects everything else.
"""

import hashlib
import math
import os
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncsnx.config import checks
from ncsnx.config.canonical import canonical
from ncsnx.config.data_sets import LARGEST_SIDE, MOST_CHANNELS, Bounds
from ncsnx.config.image_sizes import ImageSize, as_image_size, height_and_width, image_size_between, size_as_typed
from ncsnx.config.strict.complaints import NewerVersionError, StructureError
from ncsnx.config.strict.fields import OMITTED, VERSION
from ncsnx.data.dataset import StoredImages
from ncsnx.data.splits import Splits
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.documents.document import document, document_values, parse_document
from ncsnx.storage.mapped import require_whole
from ncsnx.storage.reading import opened
from ncsnx.work import Work

PACKED_MAGIC = b"\x89ncsnx\r\n"
"""Has a non-ASCII byte and a line end, so that a file damaged by a transfer as text isn't accepted."""
_VERSION = 1
PREAMBLE_BYTES = len(PACKED_MAGIC) + 8 + 32
CHECKSUM_BYTES = 32
_ALIGNMENT = 4096
NUMBER_BYTES = 8
_MOST_HEADER_BYTES = 1 << 20
_MOST_IMAGES = 1 << 40
_REPEAT = "get a complete copy, or pack the images again with `ncsnx data pack`"

Pixels = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]


PixelType = Literal["uint8", "int16", "int32", "float32"]
PIXEL_TYPES: dict[str, torch.dtype] = {
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
    "float32": torch.float32,
}
"""Types of stored values; all but the first need unbounded data."""


class PackedError(NcsnxError):
    """An invalid packed file, or one that isn't as declared."""


@document("the header of a packed data set")
@attrs.frozen(kw_only=True)
class PackedHeader:
    """Header of a packed file. Every offset in the file follows from it."""

    version: int = attrs.field(default=_VERSION, metadata=VERSION)
    count: int = attrs.field(validator=checks.between(1, _MOST_IMAGES))
    """Number of images."""
    train: int = attrs.field(validator=checks.between(1, _MOST_IMAGES))
    """Number of training images, which come first; the others are held out."""
    channels: int = attrs.field(validator=checks.between(1, MOST_CHANNELS))
    size: ImageSize = attrs.field(converter=as_image_size, validator=image_size_between(1, LARGEST_SIDE))
    """Height and width in pixels: one number, or the pair (height, width)."""
    low: float = attrs.field(validator=checks.within(0, 255))
    """The stored value that is black; 0 for unbounded data."""
    high: float = attrs.field(validator=checks.within(0, 255))
    """The stored value that is white; 1 for unbounded data."""
    bounds: Bounds = attrs.field(default="bounded", metadata=OMITTED)
    """'unbounded': the stored values are the data's own."""
    dtype: PixelType = attrs.field(default="uint8", metadata=OMITTED)
    """Type of the stored values, little-endian; other than uint8 for unbounded data only."""
    complex: bool = attrs.field(default=False, metadata=OMITTED)
    """Whether pairs of channels are real and imaginary parts; for unbounded data only."""
    chunk_images: int = attrs.field(validator=checks.between(1, _MOST_IMAGES))
    source: dict[str, Any]
    """Provenance: fingerprint of the packed data set and the settings it was read with, without paths."""

    def __attrs_post_init__(self) -> None:
        if self.train > self.count:
            raise checks.FieldError("train", f"must be at most count={self.count:,}, not {self.train:,}")
        if self.low >= self.high:
            raise checks.FieldError("high", f"must be above low={self.low}, not {self.high}")
        if self.bounds == "bounded" and self.dtype != "uint8":
            raise checks.FieldError("dtype", f"must be uint8 for bounded data, not {self.dtype}")
        if self.complex and (self.bounds == "bounded" or self.channels % 2):
            raise checks.FieldError("complex", "needs range=unbounded and pairs of channels")

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's pixels."""
        return math.prod(self.shape) * self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> "np.dtype[Any]":
        """Type of the stored values."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def torch_dtype(self) -> torch.dtype:
        """Type of the values that are read."""
        return PIXEL_TYPES[self.dtype]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.channels, *height_and_width(self.size)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return math.ceil(self.count / self.chunk_images)

    def encoded(self) -> bytes:
        """The header as stored in the file. Equal headers have equal bytes."""
        return canonical(document_values(self))

    def chunk(self, number: int) -> range:
        """The images of a chunk."""
        return range(number * self.chunk_images, min(self.count, (number + 1) * self.chunk_images))


@attrs.frozen
class PackedLayout:
    """Offsets of a file's parts, in bytes from its beginning."""

    checksums: int
    pixels: int
    labels: int
    ids: int
    end: int

    @classmethod
    def of(cls, header: PackedHeader, header_bytes: int) -> "PackedLayout":
        """The layout of a file with this header, encoded in `header_bytes` bytes."""
        checksums = PREAMBLE_BYTES + header_bytes
        pixels = _aligned(checksums + header.chunks * CHECKSUM_BYTES)
        labels = _aligned(pixels + header.count * header.image_bytes)
        ids = _aligned(labels + header.count * NUMBER_BYTES)
        return cls(checksums, pixels, labels, ids, ids + header.count * NUMBER_BYTES)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


@attrs.frozen
class PackedFile:
    """A packed file with a valid header and the right size. Its pixels are unchecked."""

    path: Path
    header: PackedHeader
    layout: PackedLayout
    checksums: bytes
    fingerprint: str

    @classmethod
    def open(cls, path: Path) -> "PackedFile":
        """Reads the header. Raises PackedError for other files, truncated files and damaged headers."""
        try:
            with opened(path, follows_links=True) as file:
                return cls._read(path, file)
        except OSError as error:
            raise PackedError(f"{path}: cannot be read: {error.strerror}") from error

    @classmethod
    def _read(cls, path: Path, file: BufferedReader) -> "PackedFile":
        size = os.fstat(file.fileno()).st_size
        preamble = file.read(PREAMBLE_BYTES)
        if not preamble.startswith(PACKED_MAGIC):
            raise PackedError(
                f"{path}: is not a packed data set (its first bytes differ)",
                Hint("to pack images", "ncsnx data pack SOURCE --out FILE"),
            )
        length = int.from_bytes(preamble[8:16], "little")
        if length > min(size, _MOST_HEADER_BYTES):
            raise _damaged(path, f"its header cannot have {counted(length, 'byte')}")
        encoded = file.read(length)
        header = _parsed(path, encoded)
        layout = PackedLayout.of(header, length)
        if layout.end != size:
            raise PackedError(
                f"{path}: expected {counted(layout.end, 'byte')} for {counted(header.count, 'image')}, found {size:,}: "
                f"it was truncated or extended; {_REPEAT}"
            )
        checksums = file.read(header.chunks * CHECKSUM_BYTES)
        digest = preamble[16:]
        if hashlib.sha256(encoded + checksums).digest() != digest:
            raise _damaged(path, "its header does not match its checksum")
        return cls(path, header, layout, checksums, digest.hex())

    def checksum(self, chunk: int) -> bytes:
        """The expected sha256 of a chunk."""
        return self.checksums[chunk * CHECKSUM_BYTES : (chunk + 1) * CHECKSUM_BYTES]


def is_packed(path: Path) -> bool:
    """Whether a file begins with the magic bytes of packed files; False also if it can't be read."""
    try:
        with opened(path, follows_links=True) as file:
            return file.read(len(PACKED_MAGIC)) == PACKED_MAGIC
    except OSError:
        return False


def preamble(encoded: bytes, checksums: bytes) -> bytes:
    """The bytes before the header of a file with this header and these checksums."""
    return PACKED_MAGIC + len(encoded).to_bytes(8, "little") + hashlib.sha256(encoded + checksums).digest()


def _damaged(path: Path, why: str) -> PackedError:
    return PackedError(f"{path}: is damaged: {why}; {_REPEAT}")


def _parsed(path: Path, encoded: bytes) -> PackedHeader:
    """The header, with every value within its bounds. Raises PackedError."""
    try:
        return parse_document(encoded, PackedHeader, path)
    except NewerVersionError as error:
        raise PackedError(str(error)) from error
    except StructureError as error:
        raise _damaged(path, f"its header: {error.words}") from error


class _Mapped:
    """The arrays of a packed file, mapped at the first access in each process."""

    def __init__(self, file: PackedFile) -> None:
        self._file = file
        self._arrays: tuple[Pixels, Numbers, Numbers] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_file": self._file, "_arrays": None}  # pickling a mapping would copy all of its bytes

    def arrays(self) -> tuple[Pixels, Numbers, Numbers]:
        """Pixels (N, C, H, W), labels (N,) and ids (N,)."""
        if self._arrays is None:
            self._arrays = _map(self._file)
        require_whole(self._file.path, self._file.layout.end)
        return self._arrays


def _map(file: PackedFile) -> tuple[Pixels, Numbers, Numbers]:
    # a spawned worker gets only the path, where there may be another file by now
    if PackedFile.open(file.path).fingerprint != file.fingerprint:
        raise PackedError(f"{file.path}: has been replaced by another file since it was opened; repeat the command")
    header, layout = file.header, file.layout
    mapped = np.asarray(np.memmap(file.path, dtype=np.uint8, mode="r"))
    pixels = mapped[layout.pixels : layout.pixels + header.count * header.image_bytes]
    labels, ids = (
        mapped[start : start + header.count * NUMBER_BYTES].view("<i8") for start in (layout.labels, layout.ids)
    )
    return pixels.view(header.numpy_dtype).reshape(header.count, *header.shape), labels, ids


@attrs.frozen(eq=False)
class PackedImages:
    """One split of a packed file: the images from `first` on."""

    _mapped: _Mapped
    first: int
    count: int
    shape: tuple[int, int, int]
    value_range: tuple[float, float]

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Tensor) -> StoredImages:
        """The images at `indices`, copied out of the file."""
        pixels, labels, ids = self._mapped.arrays()
        split = slice(self.first, self.first + self.count)
        chosen = indices.numpy()
        return StoredImages(
            torch.from_numpy(pixels[split][chosen].astype(pixels.dtype.newbyteorder("="), copy=False)),
            torch.from_numpy(labels[split][chosen].astype(np.int64, copy=False)),
            torch.from_numpy(ids[split][chosen].astype(np.int64, copy=False)),
        )


def splits_of(file: PackedFile) -> Splits:
    """The training and held-out images of a packed file."""
    header, mapped = file.header, _Mapped(file)
    shape, limits = header.shape, (header.low, header.high)
    train = PackedImages(mapped, 0, header.train, shape, limits)
    held_out = PackedImages(mapped, header.train, header.count - header.train, shape, limits)
    return Splits(train, held_out, file.fingerprint)


def declaration(header: PackedHeader) -> str:
    """The fields of `Packed` that match a file, for messages."""
    channels = "" if header.channels == 3 else f", channels={header.channels}"
    size = size_as_typed(header.size)
    kept = "" if header.bounds == "bounded" else ", range=unbounded"
    kept += ", complex=true" if header.complex else ""
    return f"image_size={size}{channels}{kept} (or random_crop={size} and a smaller image_size)"


@attrs.frozen
class Damage:
    """Damage found in a packed file."""

    images: tuple[range, ...]
    """Images of each damaged chunk, by their order in the file (training images first)."""
    padding: bool
    """Whether the padding between the parts is damaged."""


def damage(file: PackedFile, work: Work) -> Damage:
    """Reads the whole file and compares it with its checksums."""
    found = []
    with (
        opened(file.path, follows_links=True) as content,
        work.progress("checking", total=file.header.count, unit="images") as advance,
    ):
        for number in range(file.header.chunks):
            work.check_stop()
            images = file.header.chunk(number)
            if chunk_checksum(content.fileno(), file.header, file.layout, images) != file.checksum(number):
                found.append(images)
            advance(len(images))
        padding = any(any(os.pread(content.fileno(), end - start, start)) for start, end in _gaps(file))
    return Damage(tuple(found), padding)


def chunk_checksum(descriptor: int, header: PackedHeader, layout: PackedLayout, images: range) -> bytes:
    """The sha256 of the chunk of these images as stored in the file."""
    content = hashlib.sha256()
    for part, width in ((layout.pixels, header.image_bytes), (layout.labels, NUMBER_BYTES), (layout.ids, NUMBER_BYTES)):
        position, rest = part + images.start * width, len(images) * width
        while rest and (piece := os.pread(descriptor, min(rest, 1 << 20), position)):
            content.update(piece)
            position, rest = position + len(piece), rest - len(piece)
    return content.digest()


def _gaps(file: PackedFile) -> list[tuple[int, int]]:
    header, layout = file.header, file.layout
    return [
        (layout.checksums + header.chunks * CHECKSUM_BYTES, layout.pixels),
        (layout.pixels + header.count * header.image_bytes, layout.labels),
        (layout.labels + header.count * NUMBER_BYTES, layout.ids),
    ]
