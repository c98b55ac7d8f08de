"""Packed data sets: decoded images in one folder, memory-mapped, so that training reads without decoding.

    pixels.npy    N×C×H×W of the record's dtype, uint8 unless unbounded; the training images first, then the others
    labels.npy    N int64, NO_LABEL for unlabeled images
    ids.npy       N int64, each image's index in the whole data set
    packed.json   `PackedRecord`, with the sha256 of the other files; its own sha256 is the data set's fingerprint

Packing decodes every image once, in several processes, into a temporary folder beside the final one. That gets the name
when it is complete.
"""

import hashlib
import io
import math
import os
import shutil
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx import bounded_reads
from ncsnx.config.codec import identifying_values
from ncsnx.config.data_sets import Bounds, Data, Packed
from ncsnx.config.image_sizes import ImageSize, as_image_size, height_and_width, size_as_words, size_of_sides
from ncsnx.config.variants import OMITTED, VERSION
from ncsnx.data.dataset import Splits, StoredImages, numbered_classes
from ncsnx.data.places import existing_path
from ncsnx.data.read_ahead import read_all
from ncsnx.data.readers.arrays import ArrayImages
from ncsnx.data.registry import data_set
from ncsnx.data.transforms import require_declared
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import counted, product
from ncsnx.spelling import argument
from ncsnx.storage import atomic
from ncsnx.storage.array_files import StoredArray, open_array_file
from ncsnx.storage.documents import document, document_bytes, parse_document
from ncsnx.work import SILENT, Work

PixelType = Literal["uint8", "int16", "int32", "float32"]
"""Types of stored values; all but the first need unbounded data."""
PACKED_RECORD, PIXELS, LABELS, IDS = "packed.json", "pixels.npy", "labels.npy", "ids.npy"
_FILES = (PIXELS, LABELS, IDS)


@document("the record of a packed data set", advice="pack the images again with `ncsnx data pack`")
@attrs.frozen(kw_only=True)
class PackedRecord:
    """Facts about packed images."""

    version: int = attrs.field(default=1, metadata=VERSION)
    count: int
    """Number of images."""
    train: int
    """Number of training images, which come first; the others are held out."""
    channels: int
    size: ImageSize = attrs.field(converter=as_image_size)
    """Height and width in pixels: one number, or the pair (height, width)."""
    low: float
    """The stored value that is black; 0 for unbounded data."""
    high: float
    """The stored value that is white; 1 for unbounded data."""
    bounds: Bounds = attrs.field(default="bounded", metadata=OMITTED)
    """'unbounded': the stored values are the data's own."""
    dtype: PixelType = attrs.field(default="uint8", metadata=OMITTED)
    """Type of the stored values, little-endian."""
    complex: bool = attrs.field(default=False, metadata=OMITTED)
    """Whether pairs of channels are real and imaginary parts; for unbounded data only."""
    class_names: tuple[str, ...] = attrs.field(default=(), metadata=OMITTED)
    """Names of the labels; of none where not every image has one."""
    source: dict[str, Any]
    """Provenance: fingerprint of the packed data set and the settings it was read with, without paths."""
    sha256: dict[str, Any]
    """sha256 (hexadecimal) of the other files by name."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.channels, *height_and_width(self.size)

    @property
    def numpy_dtype(self) -> "np.dtype[Any]":
        """Type of the stored values."""
        return np.dtype(self.dtype).newbyteorder("<")


@attrs.frozen
class PackedFolder:
    """A packed data set with a valid record, and files of the declared shapes. Its pixels are unchecked."""

    path: Path
    record: PackedRecord
    fingerprint: str
    arrays: tuple[StoredArray, ...] = attrs.field(eq=False)
    """Pixels (N, C, H, W), labels (N,) and ids (N,)."""

    @classmethod
    def open(cls, path: Path) -> "PackedFolder":
        """Reads the record. Raises NcsnxError for other folders, and files of other sizes."""
        try:
            content = bounded_reads.read_bytes(path / PACKED_RECORD, bounded_reads.JSON_LIMIT)
        except OSError as error:
            raise NcsnxError(
                f"{path}: is not a packed data set: {PACKED_RECORD}: {error.strerror or error}",
                Hint("to pack images", "ncsnx data pack SOURCE --out FOLDER"),
            ) from error
        record = parse_document(content, PackedRecord, path / PACKED_RECORD)
        arrays = tuple(open_array_file(path / name).array() for name in _FILES)
        pixels, numbers = ((record.count, *record.shape), record.numpy_dtype), ((record.count,), np.dtype("<i8"))
        for array, expected in zip(arrays, (pixels, numbers, numbers), strict=True):
            if (array.shape, array.dtype) != expected or not 1 <= record.train <= record.count:
                raise NcsnxError(
                    f"{array.title}: found {array}, but {PACKED_RECORD} says {expected[1]} of shape {expected[0]}, "
                    f"{counted(record.train, 'training image')}; get a complete copy, or pack the images again"
                )
        return cls(path, record, hashlib.sha256(content).hexdigest(), arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum((self.path / name).stat().st_size for name in (PACKED_RECORD, *_FILES))

    def damaged(self, work: Work) -> list[str]:
        """Names of the files that don't match their sha256. Reads everything."""
        with work.progress("checking", total=self.nbytes, unit="bytes") as advance:

            def watch(count: int) -> None:
                work.check_stop()
                advance(count)

            hashes = {name: bounded_reads.sha256_of(self.path / name, watch) for name in _FILES}
        return [name for name, sha256 in hashes.items() if sha256 != self.record.sha256.get(name)]


def is_packed(path: Path) -> bool:
    """Whether a folder has the record of a packed data set."""
    return (path / PACKED_RECORD).is_file()


@data_set(Packed)
def open_packed(data: Packed, folder: Path, work: Work = SILENT) -> Splits:
    """The images of a packed data set. Raises NcsnxError if it is invalid or not as declared."""
    packed = PackedFolder.open(existing_path(data.path, folder))
    path, record, declared = packed.path, packed.record, (data.channels, *data.stored_size)
    if record.shape != declared:
        size = size_as_words(record.size)
        raise NcsnxError(
            f"{path}: expected images of {product(declared)} as declared, found {product(record.shape)}; declare "
            f"channels={record.channels}, image_size={size} (or random_crop={size} and a smaller image_size)"
        )
    require_declared(str(path), data, is_complex=record.complex, type_name=record.dtype, channels=record.channels)
    if record.bounds == "unbounded" and data.is_bounded:
        what = "its values are unbounded, expected values between black and white"
        raise NcsnxError(f"{path}: {what}; declare range=unbounded (data.range)")
    pixels, *numbers = packed.arrays
    labels, ids = (torch.from_numpy(array.read().astype(np.int64)) for array in numbers)
    whole = ArrayImages(pixels, data, "N×C×H×W", (record.low, record.high), labels, ids, torch.arange(record.count))
    is_named = int(labels.min()) >= 0 and int(labels.max()) < len(record.class_names)
    names = record.class_names if is_named else numbered_classes(labels)
    is_train = whole.places < record.train
    return Splits(whole.subset(is_train), whole.subset(~is_train), packed.fingerprint, names)


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
    splits: Splits, out: Path, *, settings: dict[str, Any], work: Work, workers: int = 0, overwrite: bool = False
) -> PackedFolder:
    """Writes the images of a data set to the folder `out`, completely or not at all.

    settings: JSON of `settings_of`, which tells readings of the same files apart. workers: decoding processes. Raises
    UsageError if `out` exists, unless it is a packed data set to `overwrite`; NcsnxError for images that can't be read
    or packed, and for a failed write.
    """
    record = _record(splits, settings)
    _require_free(out, overwrite)
    needed = record.count * (math.prod(record.shape) * record.numpy_dtype.itemsize + 16)
    with atomic.new_folder(out, replace=overwrite) as folder:
        if needed > (free := shutil.disk_usage(folder).free):
            raise NcsnxError(
                f"cannot write {out}: it needs {counted(needed, 'byte')}, and {free:,} are free; free some space, then "
                "repeat the command"
            )
        with atomic.reporting(out, needed):
            _write(folder, splits, record, work, workers)
            hashes = {name: bounded_reads.sha256_of(folder / name) for name in _FILES}
        atomic.write_new(folder / PACKED_RECORD, document_bytes(attrs.evolve(record, sha256=hashes)), shown=out)
    return PackedFolder.open(out)


def _require_free(out: Path, overwrite: bool) -> None:
    """Raises UsageError if `out` exists and isn't a packed data set that may be replaced."""
    if not os.path.lexists(out):
        return
    advice = f"choose another folder with {argument('out')}"
    if out.is_symlink() or not is_packed(out) or {path.name for path in out.iterdir()} - {*_FILES, PACKED_RECORD}:
        raise UsageError(f"{out} already exists, and is not a packed data set alone; {advice}")
    if not overwrite:
        raise UsageError(f"{out} already exists; {advice}, or give {argument('overwrite', True)} to replace it")


def _write(folder: Path, splits: Splits, record: PackedRecord, work: Work, workers: int) -> None:
    """Writes pixels, labels and ids."""
    numbers: list[tuple[Tensor, Tensor]] = []
    described = np.lib.format.dtype_to_descr(record.numpy_dtype)
    layout = {"descr": described, "fortran_order": False, "shape": (record.count, *record.shape)}
    with (
        (folder / PIXELS).open("xb") as file,
        work.progress("packing", total=record.count, unit="images") as advance,
    ):
        np.lib.format.write_array_header_1_0(file, layout)
        for images in chain(read_all(splits.train, workers), read_all(splits.held_out, workers)):
            work.check_stop()
            count = len(images.ids)
            if images.pixels.shape != (count, *record.shape) or _type_name(images) != record.dtype:
                raise NcsnxError(f"image {int(images.ids[0]):,} and the next differ in shape or type; fix the source")
            file.write(images.pixels.contiguous().numpy().astype(record.numpy_dtype, copy=False).tobytes())
            numbers.append((images.labels, images.ids))
            advance(count)
        file.flush()
        os.fsync(file.fileno())
    for name, parts in zip((LABELS, IDS), zip(*numbers, strict=True), strict=True):
        content = io.BytesIO()
        np.save(content, torch.cat(parts).numpy().astype("<i8"))
        atomic.write_new(folder / name, content.getvalue())


def _record(splits: Splits, settings: dict[str, Any]) -> PackedRecord:
    """The record, without hashes. Raises UsageError for images that can't be packed."""
    train, held_out = len(splits.train), len(splits.held_out)
    if train == 0:
        raise NcsnxError("the data set has no training images to pack; hold out a smaller share")
    is_unbounded = settings.get("range") == "unbounded"
    dtype = _type_name(splits.train.read(torch.arange(1)))
    types = get_args(PixelType) if is_unbounded else ("uint8",)
    if dtype not in types:
        what = f"unbounded values of type {', '.join(types)}" if is_unbounded else "8-bit images"
        raise UsageError(
            f"only {what} can be packed, and these are {dtype}; train on the arrays directly (data=arrays), which need "
            "no decoding"
        )
    channels, *size = splits.train.shape
    low, high = (0.0, 1.0) if is_unbounded else map(float, splits.train.value_range)
    return PackedRecord(
        count=train + held_out,
        train=train,
        channels=channels,
        size=size_of_sides(size),
        low=low,
        high=high,
        bounds="unbounded" if is_unbounded else "bounded",
        dtype=dtype,
        complex=settings.get("complex") is True,
        class_names=splits.class_names,
        source={"fingerprint": splits.fingerprint, "settings": settings},
        sha256={},
    )


def _type_name(images: StoredImages) -> Any:
    return str(images.pixels.dtype).removeprefix("torch.")
