"""Slices of volumes as a data set: HDF5 (fastMRI, MATLAB 7.3), NIfTI and NumPy files in a folder, or one file.

The split is by file, by the hash of its name, since neighboring slices are nearly copies of each other. Of a single
file, one block of slices around the middle is held out.

fastMRI (Zbontar et al. 2018, arXiv 1811.08839): a file per volume with `kspace` (slices, coils, H, W), complex, and
`reconstruction_rss` (slices, h, w), whose slices are along the first axis.
"""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.config.data_sets import Volumes
from ncsnx.config.image_sizes import size_in_words
from ncsnx.data.dataset import NO_LABEL, Dataset, Splits, StoredImages, held_out_by_hash, require_training_images
from ncsnx.data.decoding import SUFFIXES
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.places import existing_path, fingerprint_of_files
from ncsnx.data.readers.arrays import require_memory_for
from ncsnx.data.registry import data_set
from ncsnx.data.transforms import as_channels, require_declared
from ncsnx.data.value_statistics import check_values, require_valid
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted, product
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage.array_files import StoredArray, open_array_file
from ncsnx.work import Work

VOLUME_SUFFIXES = (".h5", ".hdf5", ".nii", ".nii.gz", ".mat")
"""Suffixes of files that hold volumes."""
NUMPY_SUFFIXES = (".npy", ".npz")
"""Suffixes of files that hold volumes in a folder, and images if they are alone."""
RECONSTRUCTION = "reconstruction_rss"
"""Name of the images in fastMRI's files."""
_MOST_OPEN = 64


@attrs.frozen
class Volume:
    """An array of slices in a file."""

    array: StoredArray
    axis: int
    """The axis of the slices."""

    @property
    def per_value(self) -> int:
        """Number of channels that a value gives: 2 for a complex one."""
        return 2 if self.array.is_complex else 1

    @property
    def count(self) -> int:
        """Number of slices."""
        return self.array.shape[self.axis]

    @property
    def slice_shape(self) -> tuple[int, ...]:
        """The other axes, in their order."""
        shape = self.array.shape
        return shape[: self.axis] + shape[self.axis + 1 :]


@attrs.frozen
class VolumeFiles:
    """The volumes of a folder, or of one file."""

    root: Path
    names: tuple[str, ...]
    """Paths below the folder, sorted; the file's own name for one file."""
    volumes: tuple[Volume, ...]
    fingerprint: str

    @classmethod
    def open(cls, path: Path, dataset: str | None, axis: int | None, work: Work) -> "VolumeFiles":
        """Reads the headers. Raises NcsnxError for files without the data set or that can't be read.

        dataset: name of the array in each file; default: `RECONSTRUCTION`, or else the only one. axis: of the slices;
        default: the third in NIfTI and MATLAB, the first elsewhere.
        """
        if path.is_dir():
            files = ImageFiles.open(path, VOLUME_SUFFIXES + NUMPY_SUFFIXES, "volumes")
            folder, names, mark = path, files.names, files.fingerprint
        else:
            folder, names, mark = path.parent, (path.name,), fingerprint_of_files(path.parent, [path])
        volumes = []
        with work.progress(f"reading headers of {path.name}", total=len(names), unit="files") as advance:
            for name in names:
                work.check_stop()
                volumes.append(_volume(folder / name, dataset, axis))
                advance()
        return cls(path, names, tuple(volumes), mark)


def holds_volumes(path: Path) -> bool:
    """Whether a file or folder is read as volumes: by its suffix, or as a folder with files of these suffixes."""
    if not path.is_dir():
        return path.name.lower().endswith(VOLUME_SUFFIXES)
    for is_volumes, suffixes in ((False, SUFFIXES), (True, VOLUME_SUFFIXES + NUMPY_SUFFIXES)):
        with suppress(NcsnxError):  # no such files
            return bool(ImageFiles.open(path, suffixes).names) and is_volumes
    return False


def _volume(path: Path, dataset: str | None, axis: int | None) -> Volume:
    file = open_array_file(path)
    choose = f"data.dataset=NAME or {argument('array', A_NAME)}"
    dataset = None if file.names is None else dataset  # a .npy beside files of named arrays
    array = file.array(file.chosen(dataset, "data.dataset", choose, preferred=RECONSTRUCTION))
    title, shape = array.title, array.shape
    if len(shape) not in (3, 4) or math.prod(shape) == 0:
        raise NcsnxError(
            f"{title}: expected a volume of 3 axes (slices, height, width), or 4 with channels, found {product(shape)}"
        )
    along = (2 if file.has_slices_last else 0) if axis is None else axis
    if along >= len(shape):
        raise NcsnxError(f"{title}: has no axis {along} (data.axis); its axes are {product(shape)}, counted from 0")
    return Volume(array, along)


@attrs.define(eq=False)
class VolumeSlices(Dataset):
    """One split of volumes. Picklable; each process opens the files itself, and keeps some open."""

    volumes: tuple[Volume, ...]
    data: Volumes
    value_range: tuple[float, float]
    ids: Tensor
    """(n,) int64: indices of the slices, counted through all volumes."""
    _opened: list[StoredArray] = attrs.field(factory=list, init=False)
    _ends: NDArray[np.int64] = attrs.field(init=False)
    """Index of the first slice behind each volume."""

    @_ends.default
    def _count(self) -> NDArray[np.int64]:
        return np.cumsum([volume.count for volume in self.volumes])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every slice."""
        return self.data.channels, *self.data.stored_size

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: Tensor) -> StoredImages:
        """The slices at `indices`, float32. Raises NcsnxError for a file that has changed, and for invalid values."""
        ids = self.ids[indices]
        pixels = torch.empty((len(ids), *self.shape), dtype=torch.float32)
        for place in torch.argsort(ids).tolist():  # file by file
            pixels[place] = self._image(int(ids[place]))
        require_valid(pixels, ids, self.data, self._title)
        return StoredImages(pixels, torch.full((len(ids),), NO_LABEL), ids)

    def _image(self, index: int) -> Tensor:
        volume, along = self._located(index)
        self._make_room(volume.array)
        key = tuple(along if axis == volume.axis else slice(None) for axis in range(len(volume.slice_shape) + 1))
        values = np.array(volume.array[key], np.complex64 if volume.per_value == 2 else np.float32)
        planes = channels_first(values, self.shape[0] // volume.per_value)
        # cropped and padded around the center; padded with 0, or what is nearest in bounded data
        fill = min(max(0.0, self.data.low), self.data.high) if self.data.is_bounded else 0.0
        return centered(as_channels(torch.from_numpy(planes)[None])[0], self.data.stored_size, fill)

    def _make_room(self, array: StoredArray) -> None:
        """Closes other arrays if many are open, or if this one is unpacked in memory."""
        if any(array is opened for opened in self._opened):
            return
        if array.is_packed or len(self._opened) == _MOST_OPEN:
            for opened in self._opened:
                opened.close()
            self._opened = []
        self._opened.append(array)

    def _located(self, index: int) -> tuple[Volume, int]:
        """The volume of a slice, and the slice's number in it."""
        place = int(np.searchsorted(self._ends, index, side="right"))
        return self.volumes[place], index - int(self._ends[place]) + self.volumes[place].count

    def _title(self, index: int) -> str:
        volume, along = self._located(index)
        return f"slice {along:,} of {volume.array.title}"


def channels_first(plane: NDArray[Any], channels: int) -> NDArray[Any]:
    """H×W, C×H×W or H×W×C → C×H×W."""
    if plane.ndim == 2:
        return plane[None]
    return plane if plane.shape[0] == channels else np.ascontiguousarray(plane.transpose(2, 0, 1))


def centered(image: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """(C, h, w) → (C, *size): each axis cropped around its center, or padded with `fill`."""
    for axis, wanted in enumerate(size, start=1):
        found = image.shape[axis]
        if found > wanted:
            image = image.narrow(axis, (found - wanted) // 2, wanted)
        elif found < wanted:
            before = (wanted - found) // 2
            larger = image.new_full((*image.shape[:axis], wanted, *image.shape[axis + 1 :]), fill)
            larger.narrow(axis, before, found).copy_(image)
            image = larger
    return image


@data_set(Volumes)
def open_volumes(data: Volumes, folder: Path, work: Work) -> Splits:
    """The slices of the volumes at `data.path`, split. folder: the data folder.

    Raises DataMissingError for a missing file or folder; NcsnxError for volumes of another kind or shape than declared,
    and for a sample with invalid values.
    """
    files = VolumeFiles.open(existing_path(data.path, folder), data.dataset, data.axis, work)
    title, slices = str(files.root), sum(volume.count for volume in files.volumes)
    for volume in files.volumes:
        _require_as_declared(volume, data)
    values = max(volume.per_value * math.prod(volume.slice_shape) for volume in files.volumes)
    require_memory_for(title, slices, values)
    _warn(files, data, work)
    held_out = _held_out(files, data.held_out, work)
    require_training_images(title, held_out, "slice")
    whole = VolumeSlices(files.volumes, data, (data.low, data.high), torch.arange(slices))
    if sum(volume.array.is_packed for volume in files.volumes) <= 1:  # else each slice unpacks a volume
        check_values(whole, data, title, work)
    train, rest = (attrs.evolve(whole, ids=chosen.nonzero().flatten()) for chosen in (~held_out, held_out))
    return Splits(train, rest, files.fingerprint)


def _require_as_declared(volume: Volume, data: Volumes) -> None:
    """Raises NcsnxError for real numbers where complex ones are declared, the reverse, and for other channels."""
    plane, per_value, array = volume.slice_shape, volume.per_value, volume.array
    fitting = [per_value] if len(plane) == 2 else [per_value * plane[axis] for axis in (0, 2)]
    require_declared(array.title, data, is_complex=array.is_complex, type_name=str(array.dtype), channels=fitting[0])
    if data.channels not in fitting:
        raise NcsnxError(
            f"{array.title}: expected slices of {counted(data.channels, 'channel')} along axis {volume.axis}, found "
            f"{product(array.shape)}",
            Hint("declare what fits", adds=" or ".join(f"data.channels={count}" for count in dict.fromkeys(fitting))),
        )


def _warn(files: VolumeFiles, data: Volumes, work: Work) -> None:
    """Warns of volumes that are padded, and of packed ones that are read in any order."""
    size = data.stored_size
    if smaller := sum(_is_smaller(volume, data) for volume in files.volumes):
        work.warning(
            f"{files.root}: the slices of {counted(smaller, 'volume')} are smaller than {size_in_words(size)} pixels, "
            "and are padded with 0"
        )
    if (packed := sum(volume.array.is_packed for volume in files.volumes)) > 1:
        work.warning(
            f"{files.root}: {counted(packed, 'volume')} are compressed as a whole, and each slice that training reads "
            "unpacks all of its volume; gunzip .nii.gz, or pack the data set once"
        )


def _is_smaller(volume: Volume, data: Volumes) -> bool:
    plane = volume.slice_shape
    sides = plane if len(plane) == 2 else plane[1:] if plane[0] * volume.per_value == data.channels else plane[:2]
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
            f"number {first:,} on is held out, since neighboring slices are nearly copies"
        )
    return held_out
