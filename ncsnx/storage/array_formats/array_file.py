"""Parts that readers of array files share: the interface, and headers that are checked.

A reader reads names and headers first, and values only where they are asked for. Nothing is executed or unpickled, and
no other file is read, whatever the file refers to.
"""

import importlib.util
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ncsnx.config.checks import quoted
from ncsnx.errors import Hint, NcsnxError
from ncsnx.storage.numpy_files import ArrayHeader, NamedArrays

SCIENCE_EXTRA = "pip install 'ncsnx[science]'"
"""Command that installs the readers of HDF5 and NIfTI."""
_MOST_AXES = 64


class LazyArray(Protocol):
    """An array whose values are read where it is indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """All axes."""

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """The values at integers and slices, one per axis. Raises NcsnxError if they can't be read."""


class ArrayFile(NamedArrays, Protocol):
    """A file of arrays, of which only the names have been read."""

    def read(self, name: str | None = None) -> NDArray[Any]:
        """The array in memory. Raises NcsnxError."""

    def mapped(self, name: str | None = None) -> LazyArray:
        """The array, read where it is indexed; a compressed one may be read whole. Raises NcsnxError."""


def require_extra(path: Path, module: str, format_name: str) -> None:
    """Raises NcsnxError, with the command that installs it, unless the format's library is installed."""
    if importlib.util.find_spec(module) is None:
        raise NcsnxError(
            f"{path}: {format_name} needs an extra that is not installed", Hint("install it", SCIENCE_EXTRA)
        )


def checked_header(
    title: str,
    shape: tuple[int, ...],
    dtype: "np.dtype[Any]",
    start: int | None,
    stored_bytes: int,
    *,
    fortran_order: bool = False,
) -> ArrayHeader:
    """The header of an array. Raises NcsnxError for an impossible shape. Parameters as in `ArrayHeader`."""
    # each axis is checked, since a 0 would hide a huge one in the product
    is_possible = len(shape) <= _MOST_AXES and all(0 <= axis < 2**63 for axis in shape)
    if not is_possible or math.prod(shape) * dtype.itemsize >= 2**63:
        raise NcsnxError(f"{title}: declares the impossible shape {quoted(shape)}; save it again")
    return ArrayHeader(title, shape, dtype, fortran_order, start, stored_bytes)
