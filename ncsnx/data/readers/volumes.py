"""Slices of volumes as a data set: HDF5 (fastMRI, MATLAB 7.3), NIfTI and NumPy files in a folder, or one file.

The split is by file, by the hash of its name, since neighbouring slices are nearly copies of each other. Of a single
file, one block of slices around the middle is held out.
"""

import math
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ncsnx.config.canonical import digest
from ncsnx.config.data_sets import Volumes
from ncsnx.config.image_sizes import size_in_words
from ncsnx.data.data_set import data_set
from ncsnx.data.dataset import Splits, held_out_by_hash
from ncsnx.data.magnitudes import scaled_splits
from ncsnx.data.places import OWN, own_path
from ncsnx.data.readers.arrays import require_memory_for
from ncsnx.data.transforms import require_declared
from ncsnx.data.value_scan import check_values
from ncsnx.data.volumes import OpenVolumes, Volume, VolumeFiles, VolumeSlices
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted, product
from ncsnx.work import Work


@data_set(Volumes, no_download=OWN)
def open_volumes(data: Volumes, folder: Path, work: Work) -> Splits:
    """The slices of the volumes at `data.path`, split. folder: the data folder.

    The first time, every slice is read to check its values, and the training slices to measure the scale. Raises
    DataMissingError for a missing file or folder; NcsnxError for volumes of another kind or shape than declared, and
    for NaN and infinity.
    """
    files = VolumeFiles.open(own_path(data.path, folder), data.dataset, data.axis, work)
    for volume in files.volumes:
        _require_as_declared(volume, data)
    slices = sum(volume.count for volume in files.volumes)
    require_memory_for(str(files.root), slices, max(map(_slice_values, files.volumes)))
    _say_what_changes(files, data, work)
    held_out = _held_out(files, data.held_out, work)
    if bool(held_out.all()):
        raise NcsnxError(
            f"{files.root}: all of its {counted(len(held_out), 'slice')} are held out, and none is left to train on"
        )
    source, shape = OpenVolumes(files.volumes), (data.channels, *data.stored_size)
    fill = min(max(0.0, data.low), data.high) if data.is_bounded else 0.0

    def split(chosen: Tensor) -> VolumeSlices:
        return VolumeSlices(source, shape, (data.low, data.high), fill, chosen.nonzero().flatten())

    key = [files.fingerprint, [volume.path.stat().st_mtime_ns for volume in files.volumes], data.dataset, data.axis]
    check_values(_AllSlices(files.root, digest([*key, list(shape)]), split(held_out | ~held_out)), data, "", work)
    splits = Splits(split(~held_out), split(held_out), files.fingerprint)
    return scaled_splits(splits, data, str(files.root), [*key, data.held_out, list(shape)], work)


@attrs.frozen(eq=False)
class _AllSlices:
    """The slices of both splits, whose values are checked."""

    path: Path
    name: str
    slices: VolumeSlices

    @property
    def title(self) -> str:
        return str(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.slices), *self.slices.shape

    def block(self, start: int, stop: int) -> Tensor:
        return self.slices.read(torch.arange(start, stop)).pixels

    def place(self, index: int) -> str:
        volume, along = self.slices.source.place(index)
        return f"slice {along:,} of {volume.title}"


def _require_as_declared(volume: Volume, data: Volumes) -> None:
    """Raises NcsnxError for real numbers where complex ones are declared, the reverse, and for other channels."""
    plane, per_value = volume.slice_shape, 2 if volume.is_complex else 1
    fitting = [1] if len(plane) == 2 else list(dict.fromkeys((plane[0], plane[2])))
    require_declared(
        volume.title,
        data,
        is_complex=volume.is_complex,
        type_name=volume.type_name,
        channels=per_value * fitting[0],
    )
    channels = data.channels // per_value
    if (len(plane) == 2 and channels == 1) or (len(plane) == 3 and channels in (plane[0], plane[2])):
        return
    raise NcsnxError(
        f"{volume.title}: expected slices of {counted(data.channels, 'channel')} along axis {volume.axis}, found "
        f"{product(volume.shape)}",
        Hint("declare what fits", adds=" or ".join(f"data.channels={per_value * count}" for count in fitting)),
    )


def _slice_values(volume: Volume) -> int:
    """Number of real values in a slice."""
    return math.prod(volume.slice_shape) * (2 if volume.is_complex else 1)


def _say_what_changes(files: VolumeFiles, data: Volumes, work: Work) -> None:
    """Warns of volumes that are padded, and of packed ones that are read in any order."""
    smaller = [volume for volume in files.volumes if _is_smaller(volume, data)]
    if smaller:
        work.warning(
            f"{files.root}: the slices of {counted(len(smaller), 'volume')} are smaller than "
            f"{size_in_words(data.stored_size)} pixels, and are padded with 0"
        )
    packed = sum(volume.is_packed for volume in files.volumes)
    if packed > 1:
        work.warning(
            f"{files.root}: {counted(packed, 'volume')} are compressed as a whole, and each slice that training reads "
            "unpacks all of its volume; gunzip .nii.gz, or pack the data set once"
        )


def _is_smaller(volume: Volume, data: Volumes) -> bool:
    channels = data.channels // 2 if data.is_complex else data.channels
    plane = volume.slice_shape
    sides = plane if len(plane) == 2 else plane[1:] if plane[0] == channels else plane[:2]
    return any(found < wanted for found, wanted in zip(sides, data.stored_size, strict=True))


def _held_out(files: VolumeFiles, share: float, work: Work) -> Tensor:
    """(slices,) bool: the slices that are held out."""
    counts = torch.tensor([volume.count for volume in files.volumes])
    if len(counts) > 1:
        return held_out_by_hash(files.names, share).repeat_interleave(counts)
    count = int(counts[0])
    held_out = torch.zeros(count, dtype=torch.bool)
    block = max(1, round(share * count)) if share > 0 and count > 1 else 0
    first = (count - block) // 2
    held_out[first : first + block] = True
    if block:
        work.info(
            f"{files.root} is one volume of {counted(count, 'slice')}; a block of {counted(block, 'slice')} from "
            f"number {first:,} on is held out, since neighbouring slices are nearly copies"
        )
    return held_out
