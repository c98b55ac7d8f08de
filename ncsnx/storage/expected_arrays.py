"""Arrays that a reader expects in a file from others, checked by their headers before any value is read."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
from numpy.typing import NDArray

from ncsnx.errors import NcsnxError
from ncsnx.storage.array_files import HDF5, ArrayHeader, listed, open_array_file
from ncsnx.storage.process import in_utf8

FASTMRI_OTHERS = ("ismrmrd_header", "reconstruction_rss", "reconstruction_esc")
"""Names in fastMRI's files beside kspace and mask, which measurements don't need."""


@attrs.frozen
class ExpectedArray:
    """Type and shape that a reader accepts for an array."""

    what: str
    """The values in words, such as 'real numbers'."""
    kinds: str
    """Accepted NumPy type kinds (`dtype.kind`), one letter each."""
    shapes: tuple[tuple[int | str, ...], ...]
    """Accepted shapes; a letter stands for any size except 0."""
    optional: bool = False
    copies: int = 1
    """Number of copies that must fit in memory."""
    advice: str = ""
    """Advice for arrays of another shape, appended to the message."""

    def require(self, header: ArrayHeader) -> None:
        """Raises NcsnxError, with the expected and the declared array, if `header` doesn't match."""
        if header.dtype.kind not in self.kinds or not any(_fits(header.shape, shape) for shape in self.shapes):
            raise NcsnxError(f"{header.title}: expected {self}, found {header}{self.advice}")
        header.require_memory(self.copies)

    @property
    def is_vector(self) -> bool:
        """Whether a column can only mean a vector: not if rows and columns mean different things, as in a mask."""
        return all(len(shape) == 1 or shape[0] == "P" for shape in self.shapes)

    def __str__(self) -> str:
        return f"{self.what} of shape {' or '.join(map(_in_words, self.shapes))}"


def read_arrays(
    path: Path, expected: Mapping[str, ExpectedArray], how: str, *, ignored: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """The expected arrays of a file by name.

    how: advice on saving such a file. ignored: names that are allowed but not read; in HDF5 also `FASTMRI_OTHERS`.
    Raises NcsnxError for any other array before reading values: an unknown array may change the meaning of the others.
    """
    file = open_array_file(path)
    if file.is_matlab:
        file = attrs.evolve(file, vectors=[name for name, array in expected.items() if array.is_vector])
    optional = [name for name, array in expected.items() if array.optional]
    required = [name for name in expected if name not in optional]
    accepted = f"the arrays {' and '.join(required)}" + (f" (optional: {', '.join(optional)})" if optional else "")
    if file.names is None:
        raise NcsnxError(f"{in_utf8(path)}: expected {accepted}, found one array without a name; {how}")
    others = {*ignored, *(FASTMRI_OTHERS if file.form == HDF5 else ())}
    unknown = [name for name in file.names if name not in expected and name not in others]
    if unknown or any(name not in file.names for name in required):
        names = f"{listed(file.names)}{f' (not understood: {listed(unknown)})' if unknown else ''}"
        raise NcsnxError(f"{in_utf8(path)}: expected {accepted}, found {names}; {how}")
    found = [name for name in expected if name in file.names]
    for name in found:
        expected[name].require(file.header(name))
    return {name: file.read(name) for name in found}


def _fits(shape: tuple[int, ...], expected: tuple[int | str, ...]) -> bool:
    return len(shape) == len(expected) and all(
        axis == wanted or (isinstance(wanted, str) and axis > 0) for axis, wanted in zip(shape, expected, strict=True)
    )


def _in_words(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
