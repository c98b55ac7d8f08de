"""Packing: decodes every image once, in several processes, into a file as in `ncsnx.data.packed.packed_file`.

The file is written as FILE.part, with its final size and header from the beginning, but zeros in place of the magic
number. The checksum of a chunk is written after the chunk. An interrupted packing resumes by comparing each chunk with
its checksum, which also finds chunks torn by a power cut.

With several ranks, rank 0 writes the file. The others save the chunks that they decode in the folder FILE.chunks, from
which it takes them in the order of a single process.
"""

import fcntl
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import attrs
import torch

from ncsnx.config.codec import flatten, identifying_values
from ncsnx.config.data_sets import Data
from ncsnx.config.image_sizes import size_of_sides
from ncsnx.data.dataset import StoredImages
from ncsnx.data.packed.chunk_parts import ChunkParts
from ncsnx.data.packed.packed_file import (
    CHECKSUM_BYTES,
    NUMBER_BYTES,
    PIXEL_TYPES,
    PREAMBLE_BYTES,
    PackedError,
    PackedFile,
    PackedHeader,
    PackedLayout,
    PixelType,
    chunk_checksum,
    preamble,
)
from ncsnx.data.read_ahead import read_ahead
from ncsnx.data.splits import Splits
from ncsnx.errors import NcsnxError, Stopped, UsageError
from ncsnx.quantities import counted
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.shared_disk import wait_for_file
from ncsnx.spelling import argument
from ncsnx.storage import atomic
from ncsnx.storage.documents.document import document_values
from ncsnx.work import Work

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system
CHUNK_BYTES, CHUNK_IMAGES = 16 << 20, 1024
"""Largest chunk, in bytes of pixels and in images. An interruption loses at most one chunk."""
_PIECE_BYTES, _PIECE_IMAGES = 1 << 20, 32
"""Largest piece read at once by a process. Small, since pieces wait in shared memory, which is scarce in containers."""


def settings_of(data: Data) -> dict[str, Any]:
    """Settings that determine a data set's stored pixels, besides its files.

    Without paths, and without settings that apply after reading, such as flips.
    """
    later = {*attrs.fields_dict(Data), "scale"}
    kind: dict[str, Any] = {} if data.is_bounded else {"range": "unbounded"}  # also where that is the default
    if data.is_complex:
        kind["complex"] = True  # also where it isn't a field
    return {name: value for name, value in identifying_values(data).items() if name not in later} | kind


def pack(
    splits: Splits,
    out: Path,
    *,
    settings: dict[str, Any],
    work: Work,
    workers: int = 0,
    overwrite: bool = False,
    chunk_images: int | None = None,
) -> PackedFile | None:
    """Writes the images of a data set to the file `out`, or resumes an interrupted packing.

    settings: JSON of `settings_of`, which tells readings of the same files apart. workers: decoding processes of this
    rank. A resumed packing, and one that ranks share, gives the same bytes as an uninterrupted one of one process. If
    `out` already holds these images, it is returned unchanged. Returns None on ranks other than 0. Raises UsageError if
    another file is at `out`, unless `overwrite`, or if the ranks have different images; NcsnxError for images that
    can't be read or packed, and for a failed write. Finished chunks then stay in FILE.part.
    """
    header = _header(splits, settings, chunk_images)
    require_same(work.ranks, "has other images", dict(flatten(document_values(header))), check_stop=work.check_stop)
    packing = _Packing(splits=splits, out=out, header=header, work=work, workers=workers)
    return work.ranks.lead(lambda: packing.lead(overwrite), packing.follow, work.check_stop)


@attrs.frozen(kw_only=True, eq=False)
class _Packing:
    """A packing that ranks share: each decodes every `world`-th of the missing chunks, and rank 0 writes the file."""

    splits: Splits
    out: Path
    header: PackedHeader
    work: Work
    workers: int

    def lead(self, overwrite: bool) -> PackedFile:
        """Writes the file, on rank 0."""
        if not overwrite and (packed := _already_packed(self.out, self.header)) is not None:
            return packed
        with _Part.opened(self.out, self.header, overwrite) as part:
            missing = self._take_left(part, part.missing_chunks(self.work))
            try:
                self._write(part, self.work.ranks.order(missing))
            except Stopped as stopped:
                stopped.then = f"finished chunks are kept in {part.path}, and the same command resumes after them"
                raise
            if not overwrite:
                _already_packed(self.out, self.header)  # another file may have appeared meanwhile
            part.finish()
        return PackedFile.open(self.out)

    def follow(self, missing: list[int]) -> None:
        """Decodes and saves this rank's chunks, on ranks other than 0."""
        ranks, chunks = self.work.ranks, ChunkParts(chunks_folder(self.out), self.header)
        numbers = missing[ranks.rank :: ranks.world]
        if numbers:  # without any, rank 0 may already have renamed the file
            wait_for_file(part_of(self.out), "rank 0", ranks, self.work.check_stop)

        def own() -> Iterator[int]:
            for number, images in self._decoded(numbers):
                chunks.add(number, images)
                yield number

        for _ in ranks.merged(own(), self.work.check_stop):
            pass  # it sends them to rank 0

    def _take_left(self, part: "_Part", missing: list[int]) -> list[int]:
        """Takes the missing chunks that ranks of an interrupted packing have saved; returns the others."""
        taken = {number for number in missing if part.takes(number)}
        part.chunks.discard()
        return [number for number in missing if number not in taken]

    def _write(self, part: "_Part", missing: list[int]) -> None:
        """Writes the missing chunks, its own and those of the other ranks, in order."""
        ranks, header = self.work.ranks, self.header
        with self.work.progress("packing", total=_count(header, missing), unit="images") as advance:

            def own() -> Iterator[int]:
                for piece, images in self._pieces(missing[:: ranks.world]):
                    part.write(piece, images)
                    advance(len(piece))
                    if _ends_chunk(header, piece):
                        yield piece.start // header.chunk_images

            for place, number in enumerate(ranks.merged(own(), self.work.check_stop)):
                if place % ranks.world:
                    writer, path = f"rank {place % ranks.world}", part.chunks.path(number)
                    wait_for_file(path, writer, ranks, self.work.check_stop, is_seen=partial(part.takes, number))
                    advance(len(header.chunk(number)))

    def _decoded(self, chunks: Sequence[int]) -> Iterator[tuple[int, StoredImages]]:
        """(number, images) of each of these chunks."""
        read: list[StoredImages] = []
        for piece, images in self._pieces(chunks):
            read.append(images)
            if _ends_chunk(self.header, piece):
                yield piece.start // self.header.chunk_images, _joined(read)
                read = []

    def _pieces(self, chunks: Sequence[int]) -> Iterator[tuple[range, StoredImages]]:
        """Each piece of these chunks, decoded."""
        pieces = [piece for number in chunks for piece in _pieces(self.header, number)]
        for piece, read in zip(pieces, read_ahead(partial(_read, self.splits), pieces, self.workers), strict=True):
            self.work.check_stop()
            yield piece, read


def part_of(out: Path) -> Path:
    """The unfinished file, which is renamed to `out`."""
    return out.with_name(f"{out.name}.part")


def chunks_folder(out: Path) -> Path:
    """The folder of the chunks that other ranks have decoded for `out`."""
    return out.with_name(f"{out.name}.chunks")


def _header(splits: Splits, settings: dict[str, Any], chunk_images: int | None) -> PackedHeader:
    train, held_out = len(splits.train), len(splits.held_out)
    if train == 0:
        raise NcsnxError("the data set has no training images to pack; hold out a smaller share")
    is_unbounded = settings.get("range") == "unbounded"
    dtype = _stored_type(splits, is_unbounded)
    channels, *size = splits.train.shape
    low, high = (0.0, 1.0) if is_unbounded else map(float, splits.train.value_range)
    image_bytes = math.prod(splits.train.shape) * PIXEL_TYPES[dtype].itemsize
    most = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // image_bytes))
    return PackedHeader(
        count=train + held_out,
        train=train,
        channels=channels,
        size=size_of_sides(size),
        low=low,
        high=high,
        bounds="unbounded" if is_unbounded else "bounded",
        dtype=dtype,
        complex=settings.get("complex") is True,
        chunk_images=chunk_images or most,
        source={"fingerprint": splits.fingerprint, "settings": settings},
    )


def _stored_type(splits: Splits, is_unbounded: bool) -> PixelType:
    """Type of the stored values. Raises UsageError for one that can't be packed."""
    found = str(_read(splits, range(1)).pixels.dtype).removeprefix("torch.")
    types: tuple[PixelType, ...] = get_args(PixelType) if is_unbounded else ("uint8",)
    for dtype in types:
        if found == dtype:
            return dtype
    what = f"unbounded values of type {', '.join(types)}" if is_unbounded else "8-bit images"
    raise UsageError(
        f"only {what} can be packed, and these are {found}; train on the arrays directly (data=arrays), which need no "
        "decoding"
    )


def _already_packed(out: Path, header: PackedHeader) -> PackedFile | None:
    """The file at `out` if it holds these images; None if there is none. Raises UsageError for any other file."""
    if not os.path.lexists(out):
        return None
    advice = f"choose another file with {argument('out')}, or give {argument('overwrite', True)} to replace it"
    try:
        packed = PackedFile.open(out)
    except PackedError as error:
        raise UsageError(f"{out} already exists, and is not a valid packed file ({error.message}); {advice}") from error
    if packed.header != header:
        raise UsageError(f"{out} already exists, with other images or the same ones read otherwise; {advice}")
    return packed


def _pieces(header: PackedHeader, chunk: int) -> Iterator[range]:
    images = header.chunk(chunk)
    most = max(1, min(_PIECE_IMAGES, _PIECE_BYTES // header.image_bytes))
    for start in range(images.start, images.stop, most):
        yield range(start, min(images.stop, start + most))


def _read(splits: Splits, piece: range) -> StoredImages:
    """The images of a piece of the file; training images come first."""
    train = len(splits.train)
    indices = torch.arange(piece.start, piece.stop)
    parts = [
        split.read(chosen)
        for split, chosen in (
            (splits.train, indices[indices < train]),
            (splits.held_out, indices[indices >= train] - train),
        )
        if len(chosen)
    ]
    return _joined(parts)


def _joined(parts: Sequence[StoredImages]) -> StoredImages:
    return StoredImages(*(torch.cat([getattr(part, name) for part in parts]) for name in ("pixels", "labels", "ids")))


def _count(header: PackedHeader, chunks: Sequence[int]) -> int:
    """Number of images in these chunks."""
    return sum(len(header.chunk(number)) for number in chunks)


def _ends_chunk(header: PackedHeader, piece: range) -> bool:
    return piece.stop == header.chunk(piece.start // header.chunk_images).stop


class _Part:
    """The incomplete file, FILE.part."""

    def __init__(self, out: Path, path: Path, descriptor: int, header: PackedHeader) -> None:
        self._out, self.path, self._descriptor, self._header = out, path, descriptor, header
        self.chunks = ChunkParts(chunks_folder(out), header)
        self._encoded = header.encoded()
        self._layout = PackedLayout.of(header, len(self._encoded))

    @classmethod
    @contextmanager
    def opened(cls, out: Path, header: PackedHeader, overwrite: bool) -> "Iterator[_Part]":
        """FILE.part, created if needed and locked against other processes during the block."""
        path = part_of(out)
        with atomic.reporting(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _lock(descriptor, path)
            part = cls(out, path, descriptor, header)
            part._begin(overwrite)
            yield part
        finally:
            os.close(descriptor)

    def _begin(self, overwrite: bool) -> None:
        head = bytes(PREAMBLE_BYTES) + self._encoded
        with atomic.reporting(self.path, self._layout.end):
            if not head.startswith(os.pread(self._descriptor, len(head), 0)):
                if not overwrite:
                    raise UsageError(
                        f"{self.path} is an unfinished packing of other images, or of the same ones read otherwise; "
                        "repeat that command to finish it, or remove the file"
                    )
                os.ftruncate(self._descriptor, 0)
            if os.fstat(self._descriptor).st_size == 0:
                self.chunks.discard()  # of another packing
            self._require_space()
            self._put(head, 0)
            os.ftruncate(self._descriptor, self._layout.end)

    def _require_space(self) -> None:
        missing = self._layout.end - _BLOCK_BYTES * os.fstat(self._descriptor).st_blocks
        free = shutil.disk_usage(self.path.parent).free
        if missing > free:
            raise NcsnxError(
                f"cannot write {self._out}: it needs {counted(missing, 'byte')} more, and {free:,} are free; free some "
                "space, then repeat the command"
            )

    def missing_chunks(self, work: Work) -> list[int]:
        """Numbers of the chunks that are missing or damaged."""
        size = CHECKSUM_BYTES * self._header.chunks
        checksums = os.pread(self._descriptor, size, self._layout.checksums)
        if not any(checksums):
            return list(range(self._header.chunks))
        work.info(f"resuming {self.path} after verifying its chunks")
        missing = []
        with work.progress("verifying", total=self._header.chunks, unit="chunks") as advance:
            for number in range(self._header.chunks):
                work.check_stop()
                written = checksums[CHECKSUM_BYTES * number : CHECKSUM_BYTES * (number + 1)]
                if not any(written) or written != self._checksum(number):
                    missing.append(number)
                advance()
        return missing

    def write(self, piece: range, images: StoredImages) -> None:
        """Writes images, and the checksum of their chunk after its last images."""
        header, layout = self._header, self._layout
        expected = (len(piece), *header.shape)
        if images.pixels.dtype != header.torch_dtype or images.pixels.shape != expected:
            width = "8-bit" if header.dtype == "uint8" else header.dtype
            raise NcsnxError(
                f"images {piece.start:,} to {piece.stop - 1:,}: expected {width} numbers of shape {expected}, found "
                f"{tuple(images.pixels.shape)} of {images.pixels.dtype}; fix the source"
            )
        with atomic.reporting(self._out, layout.end):
            pixels = images.pixels.contiguous().numpy().astype(header.numpy_dtype, copy=False)
            self._put(pixels.tobytes(), layout.pixels + header.image_bytes * piece.start)
            for numbers, part in ((images.labels, layout.labels), (images.ids, layout.ids)):
                self._put(numbers.numpy().astype("<i8").tobytes(), part + NUMBER_BYTES * piece.start)
            if _ends_chunk(header, piece):
                chunk = piece.start // header.chunk_images
                self._put(self._checksum(chunk), layout.checksums + CHECKSUM_BYTES * chunk)

    def takes(self, number: int) -> bool:
        """Writes a chunk that another rank has saved, and removes what it saved; False if it isn't seen."""
        images = self.chunks.read(number)
        if images is not None:
            self.write(self._header.chunk(number), images)
            self.chunks.remove(number)
        return images is not None

    def finish(self) -> None:
        """Completes the file and renames it to its final name, durably."""
        with atomic.reporting(self._out, self._layout.end):
            checksums = os.pread(self._descriptor, CHECKSUM_BYTES * self._header.chunks, self._layout.checksums)
            os.fsync(self._descriptor)
            self._put(preamble(self._encoded, checksums), 0)
            os.fsync(self._descriptor)
            self.chunks.discard()
            self.path.replace(self._out)
            atomic.sync_folder(self._out.parent)

    def _checksum(self, chunk: int) -> bytes:
        return chunk_checksum(self._descriptor, self._header, self._layout, self._header.chunk(chunk))

    def _put(self, content: bytes, position: int) -> None:
        while content:
            written = os.pwrite(self._descriptor, content, position)
            content, position = content[written:], position + written


def _lock(descriptor: int, path: Path) -> None:
    """Locks the file for this process while it is open. Raises NcsnxError if another process has locked it.

    It is a record lock, which the forked decoding processes don't inherit: if this process is killed, the file is free
    at once, although they take seconds to notice.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = os.path.samestat(os.fstat(descriptor), path.stat())
    except BlockingIOError:
        raise NcsnxError(f"{path} is being written by another process; wait for it, or stop it") from None
    except FileNotFoundError:
        mine = False
    if not mine:
        raise NcsnxError(f"{path} was just finished by another process; repeat the command")
