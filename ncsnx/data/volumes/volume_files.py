"""Volumes in a folder or one file: HDF5 (fastMRI's layout, MATLAB 7.3), NIfTI and NumPy, by their headers.

fastMRI (Zbontar et al. 2018, arXiv 1811.08839): a file per volume with `kspace` (slices, coils, H, W), complex, and
`reconstruction_rss` (slices, h, w), whose slices are along the first axis.
"""

import math
from pathlib import Path

import attrs

from ncsnx.data import fingerprint
from ncsnx.data.pictures.image_files import ImageFiles
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, product
from ncsnx.storage.array_files import COMPLEX, REAL, ArrayFile, listed, open_array_file
from ncsnx.storage.process import in_utf8
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
            names, mark = (path.name,), fingerprint.of_files(path.parent, [path])
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
