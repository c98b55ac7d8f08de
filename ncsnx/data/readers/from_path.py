"""The data set at a path: a folder or zip of pictures, a file of arrays, volumes, or a packed data set.

Channels, size and value range are read from the files unless they are given.
"""

import math
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import attrs
import torch

from ncsnx.config.checks import FieldError
from ncsnx.config.data_sets import LARGEST_SIDE, Arrays, Images, OwnData, Packed, Volumes
from ncsnx.config.image_sizes import ImageSize, height_and_width, size_as_words, size_of_sides
from ncsnx.data.decoding import GIF_SUFFIXES, HEIC_SUFFIXES, SUFFIXES, decodes_heic
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.places import declared
from ncsnx.data.readers.arrays import array_forms, as_tensor, open_array, usual_forms
from ncsnx.data.readers.own_images import picture_files
from ncsnx.data.readers.packed import PackedFolder, is_packed
from ncsnx.data.readers.volumes import VolumeFiles, holds_volumes
from ncsnx.data.scan import Scan, scan_of, sound_files
from ncsnx.data.value_statistics import MEASURED_VALUES, sample_of, usual_range
from ncsnx.errors import NcsnxError
from ncsnx.quantities import product
from ncsnx.work import Work, ignore_message

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")
LARGEST_UNASKED = 64
"""Largest side chosen by default, since training takes days rather than weeks up to it."""
_SMALL_SHARE = 0.1  # of the pictures may be smaller than the default size


@attrs.frozen(kw_only=True)
class Reading:
    """Options for reading images, named as the data sets' fields; None where not given."""

    image_size: ImageSize | None = None
    channels: int | None = None
    background: str | None = None
    held_out: float | None = None
    held_out_folder: str | None = None
    on_error: Literal["refuse", "skip"] | None = None
    random_crop: ImageSize | None = None
    patches: bool | None = None
    array: str | None = None

    def given(self) -> dict[str, Any]:
        """The options that were given, by name."""
        values = attrs.asdict(self).items()
        return {name: value for name, value in values if value is not None and value is not False}


def data_in(path: Path, said: Reading, work: Work) -> OwnData:
    """The data set at `path`, which must exist.

    Pictures: the default size is the largest square that nine in ten of them cover, at most 64; if all have one size
    that isn't square, it is that size, reduced to at most 64 pixels; patches are squares by default. The default is
    one channel if no picture has colors; GIFs are read if there are any, HEIC if it can be decoded too. Arrays and
    packed data sets aren't resized: with a smaller `image_size` they get a `random_crop`. Raises FieldError for options
    that don't suit the data; NcsnxError for files that can't be read, naming every broken picture unless they are
    skipped.

    Volumes, and complex arrays, keep their values. The default size of slices is the most frequent one.
    """
    if is_packed(path):
        return _packed(path, said)
    if holds_volumes(path):
        return _volumes(path, said, work)
    return _pictures(path, said, work) if holds_pictures(path) else _arrays(path, said)


def holds_pictures(path: Path) -> bool:
    """Whether a folder or file is read as pictures: it is neither packed nor named like arrays or volumes."""
    if is_packed(path) or holds_volumes(path):
        return False
    return path.is_dir() or path.suffix.lower() not in ARRAY_SUFFIXES


def _packed(path: Path, said: Reading) -> Packed:
    _expect(said, Packed, "a packed data set, whose images are read as packed")
    record = PackedFolder.open(path).record
    if said.channels not in (None, record.channels):
        raise FieldError("channels", f"must be {record.channels}, as {path} was packed, not {said.channels}")
    size, crop = _within(record.size, said)
    return Packed(
        path=declared(path),
        image_size=size,
        random_crop=crop,
        channels=record.channels,
        range=record.bounds,
        complex=record.complex,
    )


def _volumes(path: Path, said: Reading, work: Work) -> Volumes:
    _expect(said, Volumes, "volumes", also="array")
    files = VolumeFiles.open(path, said.array, None, work)
    first, shapes = files.volumes[0], Counter(volume.slice_shape for volume in files.volumes)
    per_value = first.per_value
    forms = usual_forms((1, *shapes.most_common(1)[0][0]))
    if not forms:
        raise NcsnxError(
            f"{first.array.title}: expected slices of at most {LARGEST_SIDE:,} pixels a side, found {first.slice_shape}"
        )
    channels = said.channels or per_value * forms[0][0]
    fitting = [size for count, size in forms if per_value * count == channels]
    data = Volumes(
        path=declared(path),
        image_size=said.image_size or (fitting or [forms[0][1]])[0],
        random_crop=said.random_crop,
        dataset=first.array.name,
        channels=channels,
        complex=first.array.is_complex,
    )
    return data if said.held_out is None else attrs.evolve(data, held_out=said.held_out)


def _arrays(path: Path, said: Reading) -> Arrays:
    _expect(said, Arrays, "arrays")
    array = open_array(path, said.array)
    per_value = 2 if array.is_complex else 1
    forms = [(per_value * channels, size) for channels, size in array_forms(array.shape)]
    shape = product(array.shape)
    if not forms:
        raise NcsnxError(f"{array.title}: expected images, N×C×H×W or N×H×W(×C), found {shape}")
    fitting = [form for form in forms if said.channels in (None, form[0])]
    if not fitting:
        found = " or ".join(str(per_value * channels) for channels, _ in usual_forms(array.shape))
        raise FieldError("channels", f"must be {found} for {path} with shape {shape}, not {said.channels}")
    channels, stored = fitting[0]
    chosen = sample_of(array.shape[0], math.prod(array.shape[1:]), MEASURED_VALUES)
    limits = None if array.is_complex else usual_range(array.title, as_tensor(array.rows(chosen.tolist())))
    size, crop = _within(stored, said)
    data = Arrays(
        path=declared(path),
        image_size=size,
        random_crop=crop,
        channels=channels,
        array=said.array,
        complex=array.is_complex,
        **({"range": "unbounded"} if limits is None else {"low": limits[0], "high": limits[1]}),
    )
    return data if said.held_out is None else attrs.evolve(data, held_out=said.held_out)


def _within(stored: ImageSize, said: Reading) -> tuple[ImageSize, ImageSize | None]:
    """(image_size, random_crop) for stored images of size `stored`, which are cropped, not resized."""
    size, shown = stored if said.image_size is None else said.image_size, size_as_words(stored)
    if any(side > most for side, most in zip(height_and_width(size), height_and_width(stored), strict=True)):
        complaint = f"must be at most {shown} (stored images are not enlarged), not {size_as_words(size)}"
        raise FieldError("image_size", complaint)
    if said.random_crop not in (None, stored):
        found = size_as_words(said.random_crop)
        raise FieldError("random_crop", f"must be {shown}, the size of the stored images, not {found}")
    return size, stored if size != stored else said.random_crop


def _pictures(path: Path, said: Reading, work: Work) -> Images:
    _expect(said, Images, "pictures")
    data = draft_of_pictures(path)
    files = picture_files(data, path)
    scan = scan_of(files, work)
    quiet = attrs.evolve(work, warning=ignore_message)  # opening the data set warns about skipped pictures
    sound_files(files, scan, said.on_error or "refuse", quiet)
    size = _usual_size(scan, of_patches=bool(said.patches))
    fields = {"channels": 1 if scan.gray == scan.sound else 3, "image_size": size, **said.given()}
    return attrs.evolve(data, **fields)


def draft_of_pictures(path: Path) -> Images:
    """A data set that reads every format in a folder or zip that can be decoded here; its size is a placeholder.

    If all pictures are HEIC it reads them, so that `picture_files` says what they need. Raises NcsnxError for what
    `ImageFiles` refuses.
    """
    names = ImageFiles.open(path, (*SUFFIXES, *GIF_SUFFIXES, *HEIC_SUFFIXES)).names
    heic = sum(name.lower().endswith(HEIC_SUFFIXES) for name in names)
    return Images(
        root=declared(path),
        image_size=LARGEST_UNASKED,
        gif=any(name.lower().endswith(GIF_SUFFIXES) for name in names),
        heic=heic == len(names) or (heic > 0 and decodes_heic()),
    )


def _usual_size(scan: Scan, *, of_patches: bool) -> ImageSize:
    """The default size; see `data_in`."""
    if of_patches or len(scan.sizes) > 1 or scan.sizes[0][0] == scan.sizes[0][1]:
        sides = torch.tensor([min(width, height) for width, height, count in scan.sizes for _ in range(count)])
        return min(LARGEST_UNASKED, int(sides.kthvalue(math.floor(_SMALL_SHARE * scan.sound) + 1).values))
    width, height, _ = scan.sizes[0]
    scale = min(1.0, LARGEST_UNASKED / max(height, width))
    return size_of_sides([max(1, round(scale * side)) for side in (height, width)])


def _expect(said: Reading, kind: type[OwnData], what: str, also: str = "") -> None:
    """Raises FieldError for an option that this kind of data set doesn't have. also: a further one that it has."""
    known = {also, *(field.name for field in attrs.fields(kind))}
    for name in said.given():
        if name not in known:
            raise FieldError(name, f"does not apply to {what}; leave it out")
