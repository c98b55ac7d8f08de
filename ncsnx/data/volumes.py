"""Volumes in a folder or one file: HDF5 (fastMRI's layout, MATLAB 7.3), NIfTI and NumPy, by their headers.

fastMRI (Zbontar et al. 2018, arXiv 1811.08839): a file per volume with `kspace` (slices, coils, H, W), complex, and
`reconstruction_rss` (slices, h, w), whose slices are along the first axis.
"""

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.data.dataset import NO_LABEL, StoredImages
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.places import fingerprint_of_files
from ncsnx.data.transforms import as_channels
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, product
from ncsnx.storage.array_files import COMPLEX, REAL, ArrayFile, LazyArray, listed, open_array_file
from ncsnx.storage.process import in_utf8
from ncsnx.storage.reading import require_whole
from ncsnx.work import Work, silent_progress

VOLUME_SUFFIXES = (".h5", ".hdf5", ".nii", ".nii.gz", ".mat")
"""Suffixes of files that hold volumes."""
NUMPY_SUFFIXES = (".npy", ".npz")
"""Suffixes of files that hold volumes in a folder, and images if they are alone."""
RECONSTRUCTION = "reconstruction_rss"
"""Name of the images in fastMRI's files."""
_MOST_BITS = 64
_MANY_FILES = 100  # whose headers take a second or more


@attrs.frozen
class Volume:
    """An array of slices in a file."""

    path: Path
    title: str
    """File and array name, for messages."""
    name: str | None
    shape: tuple[int, ...]
    axis: int
    """The axis of the slices."""
    type_name: str
    is_complex: bool
    is_packed: bool
    """Whether reading a slice unpacks the whole volume."""

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
    def open(
        cls, path: Path, dataset: str | None, axis: int | None, work: Work, chosen_by: str = "data.dataset=NAME"
    ) -> "VolumeFiles":
        """Reads the headers. Raises NcsnxError for files without the data set or that can't be read.

        dataset: name of the array in each file; default: `RECONSTRUCTION`, or else the only one. axis: of the slices;
        default: the third in NIfTI and MATLAB, the first elsewhere. chosen_by: how the dataset is said, for messages.
        """
        if path.is_dir():
            files = ImageFiles.open(path, VOLUME_SUFFIXES + NUMPY_SUFFIXES, "volumes")
            names, mark = files.names, files.fingerprint
        else:
            names, mark = (path.name,), fingerprint_of_files(path.parent, [path])
        folder = path if path.is_dir() else path.parent
        volumes = []
        shown = work.progress if len(names) >= _MANY_FILES else silent_progress
        with shown(f"reading headers of {path.name}", total=len(names), unit="files") as advance:
            for name in names:
                work.check_stop()
                volumes.append(_volume(folder / name, dataset, axis, chosen_by))
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


def _volume(path: Path, dataset: str | None, axis: int | None, chosen_by: str) -> Volume:
    file = open_array_file(path)
    name = _chosen(file, dataset, chosen_by)
    header = file.header(name)
    title, shape = header.title, header.shape
    itemsize = 8 * header.dtype.itemsize // (2 if header.dtype.kind in COMPLEX else 1)
    if header.dtype.kind not in REAL + COMPLEX or itemsize > _MOST_BITS:
        raise NcsnxError(
            f"{title}: expected real or complex numbers of up to 64 bits, found {header.dtype}; convert it"
        )
    if len(shape) not in (3, 4) or math.prod(shape) == 0:
        raise NcsnxError(
            f"{title}: expected a volume of 3 axes (slices, height, width), or 4 with channels, found {product(shape)}"
        )
    along = (2 if file.has_slices_last else 0) if axis is None else axis
    if along >= len(shape):
        raise NcsnxError(f"{title}: has no axis {along} (data.axis); its axes are {product(shape)}, counted from 0")
    is_complex = header.dtype.kind in COMPLEX
    return Volume(path, title, name, shape, along, str(header.dtype), is_complex, header.is_packed)


def _chosen(file: ArrayFile, dataset: str | None, chosen_by: str) -> str | None:
    """The name of the array to read; None where the one array has no name."""
    names = file.names
    if names is None:
        return None
    if dataset is not None:
        if dataset not in names:
            raise NcsnxError(f"{in_utf8(file.path)}: expected an array {dataset} (data.dataset), found {listed(names)}")
        return dataset
    if RECONSTRUCTION in names:
        return RECONSTRUCTION
    if len(names) != 1:
        raise NcsnxError(
            f"{in_utf8(file.path)}: expected one array, found {counted(len(names), 'array')}: {listed(names)}; choose "
            f"one with {chosen_by}"
        )
    return names[0]


_MOST_OPEN, _MOST_UNPACKED = 64, 1


class OpenVolumes:
    """Volumes that are read slice by slice. Picklable; each process opens the files itself.

    volumes: the volumes, which slices are counted through. Of those that are unpacked in memory, only the last is kept.
    """

    def __init__(self, volumes: tuple[Volume, ...]) -> None:
        self.volumes = volumes
        self._first = np.cumsum([0, *(volume.count for volume in volumes)])
        self._opened: OrderedDict[int, tuple[LazyArray, int]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": OrderedDict()}

    def __len__(self) -> int:
        return int(self._first[-1])

    def place(self, index: int) -> tuple[Volume, int]:
        """The volume of a slice, and the slice's number in it."""
        place, along = self._located(index)
        return self.volumes[place], along

    def slice(self, index: int) -> NDArray[Any]:
        """A slice, in the shape and type of its volume. Raises NcsnxError if it can't be read."""
        place, along = self._located(index)
        volume, values = self.volumes[place], self._values(place)
        key = tuple(along if axis == volume.axis else slice(None) for axis in range(len(volume.shape)))
        return np.asarray(values[key])

    def _located(self, index: int) -> tuple[int, int]:
        """The index of a slice's volume, and the slice's number in it."""
        place = int(np.searchsorted(self._first, index, side="right")) - 1
        return place, index - int(self._first[place])

    def _values(self, place: int) -> LazyArray:
        volume = self.volumes[place]
        if place not in self._opened:
            values = open_array_file(volume.path).mapped(volume.name)
            self._opened[place] = values, 0 if volume.is_packed else volume.path.stat().st_size
            unpacked = [other for other, (_, size) in self._opened.items() if size == 0]
            for other in unpacked[:-_MOST_UNPACKED]:
                del self._opened[other]
            if len(self._opened) > _MOST_OPEN:
                self._opened.popitem(last=False)
        values, size = self._opened[place]
        require_whole(volume.path, size)
        return values


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
