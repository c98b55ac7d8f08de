"""A packed data set: one file of decoded images that is memory-mapped, so that training reads without decoding.

    0     8 bytes      MAGIC
    8     8 bytes      length of the header
    16    32 bytes     sha256 of header and checksums; its hexadecimal form is the data set's fingerprint
    48    header       UTF-8 JSON: `PackedHeader`
    then  checksums    32 bytes a chunk: sha256 of its pixels, its labels and its ids, in this order
    then  pixels       N×C×S×S uint8, the training images first, then those that are held out
    then  labels       N int64, NO_LABEL where there is none
    then  ids          N int64, the place of each image in the whole data set

Integers are little-endian; pixels, labels and ids begin at multiples of 4,096 bytes, with zeros before them. A chunk is
`chunk_images` images, the last one what is left. The fingerprint covers every pixel through the checksums. The file's
size follows from the header, so that opening finds one that was cut; `damage` finds the rest.
"""

import hashlib
import math
import os
from io import BufferedReader
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncsnx.config import checks
from ncsnx.config.canonical import canonical
from ncsnx.config.strict.complaints import NewerVersionError, StructureError
from ncsnx.config.strict.fields import versioned
from ncsnx.data.dataset import StoredImages
from ncsnx.data.splits import Splits
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage.documents.document import document, document_values, parse_document
from ncsnx.storage.mapped import require_whole
from ncsnx.storage.reading import opened
from ncsnx.work import Work

PACKED_MAGIC = b"\x89ncsnx\r\n"
"""A byte beyond ASCII and both line ends, so that a file that passed as text isn't taken for one."""
_VERSION = 1
PREAMBLE_BYTES = len(PACKED_MAGIC) + 8 + 32
CHECKSUM_BYTES = 32
_ALIGNMENT = 4096
NUMBER_BYTES = 8
_MOST_HEADER_BYTES = 1 << 20
_MOST_IMAGES = 1 << 40
_REPEAT = "get it again, or pack the images again with `ncsnx data pack`"

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


class PackedError(NcsnxError):
    """A file that isn't a sound packed data set, or isn't the one that was declared."""


@document("the header of a packed data set")
@attrs.frozen(kw_only=True)
class PackedHeader:
    """What a packed file says of itself; every offset in it follows from this."""

    version: int = attrs.field(default=_VERSION, metadata=versioned())
    count: int = attrs.field(validator=checks.between(1, _MOST_IMAGES))
    """Images in all."""
    train: int = attrs.field(validator=checks.between(1, _MOST_IMAGES))
    """How many of them, from the first on, are training images; the others are held out."""
    channels: int = attrs.field(validator=checks.between(1, 1_024))
    size: int = attrs.field(validator=checks.between(1, 16_384))
    """Height and width in pixels."""
    low: float = attrs.field(validator=checks.within(0, 255))
    """The stored value that is black."""
    high: float = attrs.field(validator=checks.within(0, 255))
    """The stored value that is white."""
    chunk_images: int = attrs.field(validator=checks.between(1, _MOST_IMAGES))
    source: dict[str, Any]
    """What was packed: the fingerprint of the data set and the settings it was read with. No path is in it."""

    def __attrs_post_init__(self) -> None:
        if self.train > self.count:
            raise checks.FieldError("train", f"must be at most count={self.count:,}, not {self.train:,}")
        if self.low >= self.high:
            raise checks.FieldError("high", f"must be above low={self.low}, not {self.high}")

    @property
    def image_bytes(self) -> int:
        """Bytes of an image's pixels."""
        return self.channels * self.size**2

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return math.ceil(self.count / self.chunk_images)

    def encoded(self) -> bytes:
        """The header as it is in the file; equal headers have equal bytes."""
        return canonical(document_values(self))

    def chunk(self, number: int) -> range:
        """The images of a chunk."""
        return range(number * self.chunk_images, min(self.count, (number + 1) * self.chunk_images))


@attrs.frozen
class PackedLayout:
    """Where things are in the file, in bytes from its beginning."""

    checksums: int
    pixels: int
    labels: int
    ids: int
    end: int

    @classmethod
    def of(cls, header: PackedHeader, header_bytes: int) -> "PackedLayout":
        """The layout that follows from a header which takes `header_bytes` bytes."""
        checksums = PREAMBLE_BYTES + header_bytes
        pixels = _aligned(checksums + header.chunks * CHECKSUM_BYTES)
        labels = _aligned(pixels + header.count * header.image_bytes)
        ids = _aligned(labels + header.count * NUMBER_BYTES)
        return cls(checksums, pixels, labels, ids, ids + header.count * NUMBER_BYTES)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


@attrs.frozen
class PackedFile:
    """A packed file whose header is sound and whose size is right. Its pixels have not been looked at."""

    path: Path
    header: PackedHeader
    layout: PackedLayout
    checksums: bytes
    fingerprint: str

    @classmethod
    def open(cls, path: Path) -> "PackedFile":
        """Reads the header. Raises PackedError for what isn't a packed file, is cut, or has a damaged header."""
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
                f"{path}: is not a packed data set (it does not begin as one); `ncsnx data pack SOURCE --out FILE` "
                "makes them"
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
                f"it was cut or added to; {_REPEAT}"
            )
        checksums = file.read(header.chunks * CHECKSUM_BYTES)
        digest = preamble[16:]
        if hashlib.sha256(encoded + checksums).digest() != digest:
            raise _damaged(path, "its header is not the one that was written")
        return cls(path, header, layout, checksums, digest.hex())

    def checksum(self, chunk: int) -> bytes:
        """The sha256 that a chunk should have."""
        return self.checksums[chunk * CHECKSUM_BYTES : (chunk + 1) * CHECKSUM_BYTES]


def is_packed(path: Path) -> bool:
    """Whether a file begins as packed ones do; False also for what can't be read."""
    try:
        with opened(path, follows_links=True) as file:
            return file.read(len(PACKED_MAGIC)) == PACKED_MAGIC
    except OSError:
        return False


def preamble(encoded: bytes, checksums: bytes) -> bytes:
    """The beginning of a file with that header and these checksums, up to the header."""
    return PACKED_MAGIC + len(encoded).to_bytes(8, "little") + hashlib.sha256(encoded + checksums).digest()


def _damaged(path: Path, why: str) -> PackedError:
    return PackedError(f"{path}: is damaged: {why}; {_REPEAT}")


def _parsed(path: Path, encoded: bytes) -> PackedHeader:
    """The header, each of its values within bounds, whoever wrote it."""
    try:
        return parse_document(encoded, PackedHeader, path)
    except NewerVersionError as error:
        raise PackedError(str(error)) from error
    except StructureError as error:
        raise _damaged(path, f"its header: {error.words}") from error


class _Mapped:
    """The arrays of a packed file, mapped when they are first asked for, once in each process."""

    def __init__(self, file: PackedFile) -> None:
        self._file = file
        self._arrays: tuple[Bytes, Numbers, Numbers] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_file": self._file, "_arrays": None}  # a mapping is pickled as all of its bytes

    def arrays(self) -> tuple[Bytes, Numbers, Numbers]:
        """Pixels (N, C, S, S), labels (N,) and ids (N,)."""
        if self._arrays is None:
            self._arrays = _map(self._file)
        require_whole(self._file.path, self._file.layout.end)
        return self._arrays


def _map(file: PackedFile) -> tuple[Bytes, Numbers, Numbers]:
    # opened anew, since a worker that is spawned gets a name, behind which another file may be by now
    if PackedFile.open(file.path).fingerprint != file.fingerprint:
        raise PackedError(
            f"{file.path}: has been replaced by another file since it was opened; start the command again"
        )
    header, layout = file.header, file.layout
    mapped = np.asarray(np.memmap(file.path, dtype=np.uint8, mode="r"))
    pixels = mapped[layout.pixels : layout.pixels + header.count * header.image_bytes]
    labels, ids = (
        mapped[start : start + header.count * NUMBER_BYTES].view("<i8") for start in (layout.labels, layout.ids)
    )
    return pixels.reshape(header.count, header.channels, header.size, header.size), labels, ids


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
            torch.from_numpy(pixels[split][chosen]),
            torch.from_numpy(labels[split][chosen].astype(np.int64, copy=False)),
            torch.from_numpy(ids[split][chosen].astype(np.int64, copy=False)),
        )


def splits_of(file: PackedFile) -> Splits:
    """The training and the held-out images of a packed file."""
    header, mapped = file.header, _Mapped(file)
    shape, limits = (header.channels, header.size, header.size), (header.low, header.high)
    train = PackedImages(mapped, 0, header.train, shape, limits)
    held_out = PackedImages(mapped, header.train, header.count - header.train, shape, limits)
    return Splits(train, held_out, file.fingerprint)


def declaration(header: PackedHeader) -> str:
    """The fields of `Packed` that suit a file."""
    channels = "" if header.channels == 3 else f", channels={header.channels}"
    return f"image_size={header.size}{channels} (or random_crop={header.size} and a smaller image_size)"


@attrs.frozen
class Damage:
    """What is wrong in a packed file."""

    images: tuple[range, ...]
    """The images of each damaged chunk, counted as in the file: training images first."""
    padding: bool
    """Whether there is something in the gaps between its parts, where nothing should be."""


def damage(file: PackedFile, work: Work) -> Damage:
    """Reads everything, and compares it with the checksums."""
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
    """The sha256 of the chunk of these images, as it is in the file."""
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
