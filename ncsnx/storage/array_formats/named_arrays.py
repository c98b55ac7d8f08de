"""Named arrays from any format that is read: `.npz`, HDF5, MATLAB; and files of one array, `.npy` and NIfTI."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
from numpy.typing import NDArray

from ncsnx.errors import NcsnxError
from ncsnx.storage.array_formats.array_file import ArrayFile, LazyArray
from ncsnx.storage.array_formats.hdf5_file import MATLAB_BLOCK, Hdf5File, is_hdf5
from ncsnx.storage.array_formats.matlab_file import MatlabFile, is_matlab_5
from ncsnx.storage.array_formats.nifti_file import NiftiFile, is_nifti
from ncsnx.storage.numpy_files import NPY_MAGIC, ArrayHeader, ExpectedArray, NumpyFile, opened_arrays, require_named
from ncsnx.storage.process import in_utf8
from ncsnx.storage.zips import ZIP_MAGIC

FASTMRI_OTHERS = ("ismrmrd_header", "reconstruction_rss", "reconstruction_esc")
"""Names in fastMRI's files beside kspace and mask, which measurements don't need."""
_BEGIN_BYTES = MATLAB_BLOCK + 8


def open_array_file(path: Path) -> ArrayFile:
    """The file of arrays, by what it begins with.

    Raises NcsnxError for other files, files that can't be read, and formats whose extra isn't installed.
    """
    with opened_arrays(path) as file:
        begin = file.read(_BEGIN_BYTES)
    if begin.startswith((NPY_MAGIC, ZIP_MAGIC)):
        return NumpyFile.open(path)
    if is_hdf5(begin):
        return Hdf5File.open(path)
    if is_matlab_5(begin):
        return MatlabFile.open(path)
    if is_nifti(path):
        return NiftiFile.open(path)
    advice = ""
    if path.suffix.lower() == ".mat":
        advice = "; MATLAB writes one that is read with save(…, '-v7')"
    elif begin[128:132] == b"DICM":
        advice = " (DICOM); convert it to NIfTI, with dcm2niix for example"
    raise NcsnxError(
        f"{in_utf8(path)}: expected a .npy, .npz, HDF5, MATLAB or NIfTI file, found something else{advice}"
    )


def read_named_arrays(
    path: Path, expected: Mapping[str, ExpectedArray], how: str, *, ignored: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """The expected arrays of a `.npz`, HDF5 or MATLAB file by name: `read_arrays` for every format.

    how: advice on saving such a file. ignored: names that are allowed but not read; in HDF5 also `FASTMRI_OTHERS`.
    Raises NcsnxError for any other array of numbers before reading values.
    """
    file = open_array_file(path)
    others = (*ignored, *FASTMRI_OTHERS) if isinstance(file, Hdf5File) else ignored
    if isinstance(file, NumpyFile):
        require_named(file, expected, how, ignored=others)
    else:
        if isinstance(file, MatlabFile) or (isinstance(file, Hdf5File) and file.is_matlab):
            file = _WithVectors(file, [name for name, array in expected.items() if _may_be_vector(array)])
        require_named(file, expected, how, ignored=others, of="", nameless="a NIfTI, which holds one array")
    return {name: file.read(name) for name in expected if name in (file.names or ())}


def _may_be_vector(expected: ExpectedArray) -> bool:
    """Whether a column can only mean a vector: not if rows and columns mean different things, as in a mask."""
    return all(len(shape) == 1 or shape[0] == "P" for shape in expected.shapes)


@attrs.frozen
class _WithVectors:
    """A MATLAB file, whose vectors have two axes there and one here."""

    file: MatlabFile | Hdf5File
    vectors: Collection[str]
    """Names of the arrays that may have one axis."""

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def names(self) -> tuple[str, ...]:
        return self.file.names

    def header(self, name: str | None = None) -> ArrayHeader:
        found = self.file.header(name)
        is_vector = name in self.vectors and len(found.shape) == 2 and 1 in found.shape
        return attrs.evolve(found, shape=(math.prod(found.shape),)) if is_vector else found

    def read(self, name: str | None = None) -> NDArray[Any]:
        return self.file.read(name).reshape(self.header(name).shape)

    def mapped(self, name: str | None = None) -> LazyArray:
        return self.file.mapped(name)
