"""Slices of volumes as a data set: HDF5 (fastMRI, MATLAB 7.3), NIfTI and NumPy files in a folder, or one file.

The split is by file, by the hash of its name, since neighbouring slices are nearly copies of each other. Of a single
file, one block of slices around the middle is held out.

fastMRI (Zbontar et al. 2018, arXiv 1811.08839): a file per volume with `kspace` (slices, coils, H, W), complex, and
`reconstruction_rss` (slices, h, w), whose slices are along the first axis.
"""

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.config.data_sets import Volumes
from ncsnx.config.image_sizes import size_in_words
from ncsnx.data.dataset import NO_LABEL, Splits, StoredImages, held_out_by_hash, require_training_images
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.places import OWN, fingerprint_of_files, own_path
from ncsnx.data.readers.arrays import require_memory_for
from ncsnx.data.registry import data_set
from ncsnx.data.transforms import as_channels, require_declared
from ncsnx.data.value_statistics import ValueBlocks, check_values, scaled_splits
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted, product
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage.array_files import COMPLEX, REAL, StoredArray, open_array_file
from ncsnx.work import Work, silent_progress

VOLUME_SUFFIXES = (".h5", ".hdf5", ".nii", ".nii.gz", ".mat")
"""Suffixes of files that hold volumes."""
NUMPY_SUFFIXES = (".npy", ".npz")
"""Suffixes of files that hold volumes in a folder, and images if they are alone."""
RECONSTRUCTION = "reconstruction_rss"
"""Name of the images in fastMRI's files."""
_MOST_BITS = 64
_MANY_FILES = 100  # whose headers take a second or more
_MOST_OPEN = 64


@attrs.frozen
class Volume:
    """An array of slices in a file."""

    array: StoredArray
    axis: int
    """The axis of the slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """All axes."""
        return self.array.header.shape

    @property
    def title(self) -> str:
        """File and array name, for messages."""
        return self.array.header.title

    @property
    def per_value(self) -> int:
        """Number of channels that a value gives: 2 for a complex one."""
        return 2 if self.array.header.is_complex else 1

    @property
    def count(self) -> int:
        """Number of slices."""
        return self.shape[self.axis]

    @property
    def slice_shape(self) -> tuple[int, ...]:
        """The other axes, in their order."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]


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
        shown = work.progress if len(names) >= _MANY_FILES else silent_progress
        with shown(f"reading headers of {path.name}", total=len(names), unit="files") as advance:
            for name in names:
                work.check_stop()
                volumes.append(_volume(folder / name, dataset, axis))
                advance()
        return cls(path, names, tuple(volumes), mark)


def holds_volumes(path: Path) -> bool:
    """Whether a file or folder is read as volumes: by its suffix, or as a folder with files of these suffixes."""
    if not path.is_dir():
        return path.name.lower().endswith(VOLUME_SUFFIXES)
    try:
        ImageFiles.open(path)
    except NcsnxError:  # no pictures
        try:
            return bool(ImageFiles.open(path, VOLUME_SUFFIXES + NUMPY_SUFFIXES).names)
        except NcsnxError:
            return False
    return False


def _volume(path: Path, dataset: str | None, axis: int | None) -> Volume:
    file = open_array_file(path)
    choose = f"data.dataset=NAME or {argument('array', A_NAME)}"
    dataset = None if file.names is None else dataset  # a .npy beside files of named arrays
    array = StoredArray.of(file, file.chosen(dataset, "data.dataset", choose, preferred=RECONSTRUCTION))
    title, shape, dtype = array.header.title, array.header.shape, array.header.dtype
    bits = 8 * dtype.itemsize // (2 if array.header.is_complex else 1)
    if dtype.kind not in REAL + COMPLEX or bits > _MOST_BITS:
        raise NcsnxError(f"{title}: expected real or complex numbers of up to 64 bits, found {dtype}; convert it")
    if len(shape) not in (3, 4) or math.prod(shape) == 0:
        raise NcsnxError(
            f"{title}: expected a volume of 3 axes (slices, height, width), or 4 with channels, found {product(shape)}"
        )
    along = (2 if file.has_slices_last else 0) if axis is None else axis
    if along >= len(shape):
        raise NcsnxError(f"{title}: has no axis {along} (data.axis); its axes are {product(shape)}, counted from 0")
    return Volume(array, along)


class OpenVolumes:
    """Volumes that are read slice by slice, and counted through. Picklable; each process opens the files itself.

    At most 64 are open. Of those that are unpacked in memory, only the last is kept.
    """

    def __init__(self, volumes: tuple[Volume, ...]) -> None:
        self.volumes = volumes
        self._first = np.cumsum([0, *(volume.count for volume in volumes)])
        self._opened: list[StoredArray] = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": []}

    def located(self, index: int) -> tuple[Volume, int]:
        """The volume of a slice, and the slice's number in it."""
        place = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.volumes[place], index - int(self._first[place])

    def slice(self, index: int) -> NDArray[Any]:
        """A slice, in the shape and type of its volume. Raises NcsnxError if it can't be read."""
        volume, along = self.located(index)
        if volume.array not in self._opened:
            self._make_room(volume.array)
        key = tuple(along if axis == volume.axis else slice(None) for axis in range(len(volume.shape)))
        return volume.array[key]

    def _make_room(self, array: StoredArray) -> None:
        """Closes other arrays before `array` is opened."""
        is_packed = array.header.is_packed
        closed = [other for other in self._opened if is_packed and other.header.is_packed]
        closed = closed or self._opened[: max(0, len(self._opened) + 1 - _MOST_OPEN)]
        for other in closed:
            other.close()
        self._opened = [other for other in self._opened if other not in closed] + [array]


@attrs.frozen(eq=False)
class VolumeSlices:
    """One split of volumes."""

    source: OpenVolumes
    shape: tuple[int, int, int]
    value_range: tuple[float, float]
    fill: float
    """Value around slices that are smaller."""
    ids: Tensor
    """(n,) int64: indices of the slices, counted through all volumes."""

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: Tensor) -> StoredImages:
        """The slices at `indices`, float32. Raises NcsnxError for a file that has changed."""
        ids = self.ids[indices]
        pixels = torch.empty((len(ids), *self.shape), dtype=torch.float32)
        for place in torch.argsort(ids).tolist():  # file by file
            pixels[place] = self._image(int(ids[place]))
        return StoredImages(pixels, torch.full((len(ids),), NO_LABEL), ids)

    def _image(self, index: int) -> Tensor:
        values = self.source.slice(index)
        is_complex = values.dtype.kind == "c"
        planes = np.array(values, np.complex64 if is_complex else np.float32)
        channels = self.shape[0] // 2 if is_complex else self.shape[0]
        image = as_channels(torch.from_numpy(channels_first(planes, channels))[None])[0]
        return centred(image, self.shape[1:], self.fill)


def channels_first(plane: NDArray[Any], channels: int) -> NDArray[Any]:
    """H×W, C×H×W or H×W×C → C×H×W."""
    if plane.ndim == 2:
        return plane[None]
    return plane if plane.shape[0] == channels else np.ascontiguousarray(plane.transpose(2, 0, 1))


def centred(image: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """(C, h, w) → (C, *size): each axis cropped around its centre, or padded with `fill`."""
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
    values = max(volume.per_value * math.prod(volume.slice_shape) for volume in files.volumes)
    require_memory_for(str(files.root), slices, values)
    _say_what_changes(files, data, work)
    held_out = _held_out(files, data.held_out, work)
    require_training_images(str(files.root), held_out, "slice")
    source, shape = OpenVolumes(files.volumes), (data.channels, *data.stored_size)
    fill = min(max(0.0, data.low), data.high) if data.is_bounded else 0.0

    def split(chosen: Tensor) -> VolumeSlices:
        return VolumeSlices(source, shape, (data.low, data.high), fill, chosen.nonzero().flatten())

    def place(index: int) -> str:
        volume, along = source.located(index)
        return f"slice {along:,} of {volume.title}"

    everything = split(held_out | ~held_out)
    key = [
        files.fingerprint,
        [volume.array.file.path.stat().st_mtime_ns for volume in files.volumes],
        data.dataset,
        data.axis,
    ]
    blocks = ValueBlocks(
        path=files.root,
        title=str(files.root),
        key=["", files.root.stat().st_mtime_ns, digest([*key, list(shape)])],
        shape=(slices, *shape),
        block=lambda start, stop: everything.read(torch.arange(start, stop)).pixels,
        place=place,
    )
    check_values(blocks, data, work)
    splits = Splits(split(~held_out), split(held_out), files.fingerprint)
    return scaled_splits(splits, data, str(files.root), [*key, data.held_out, list(shape)], work)


def _require_as_declared(volume: Volume, data: Volumes) -> None:
    """Raises NcsnxError for real numbers where complex ones are declared, the reverse, and for other channels."""
    plane, per_value = volume.slice_shape, volume.per_value
    fitting = [1] if len(plane) == 2 else list(dict.fromkeys((plane[0], plane[2])))
    require_declared(
        volume.title,
        data,
        is_complex=volume.array.header.is_complex,
        type_name=str(volume.array.header.dtype),
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


def _say_what_changes(files: VolumeFiles, data: Volumes, work: Work) -> None:
    """Warns of volumes that are padded, and of packed ones that are read in any order."""
    smaller = [volume for volume in files.volumes if _is_smaller(volume, data)]
    if smaller:
        work.warning(
            f"{files.root}: the slices of {counted(len(smaller), 'volume')} are smaller than "
            f"{size_in_words(data.stored_size)} pixels, and are padded with 0"
        )
    packed = sum(volume.array.header.is_packed for volume in files.volumes)
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
