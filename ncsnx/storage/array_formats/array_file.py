"""Parts that readers of array files share: the interface, and headers that are checked.

A reader reads names and headers first, and values only where they are asked for. Nothing is executed or unpickled, and
no other file is read, whatever the file refers to.
"""

import importlib.util
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from ncsnx.errors import Hint, NcsnxError
from ncsnx.storage.numpy_files import NamedArrays

SCIENCE_EXTRA = "pip install 'ncsnx[science]'"
"""Command that installs the readers of HDF5 and NIfTI."""


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
