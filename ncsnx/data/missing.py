"""Data sets that a person has to bring: where they are expected, and what to say when they aren't there."""

from pathlib import Path

from ncsnx.config.data import DataOnDisk
from ncsnx.errors import NcsnxError


class DataMissingError(NcsnxError):
    """A data set isn't on the disk: says what to get, where to put it, and how to point to it."""


def root_of(data: DataOnDisk, folder: Path, default: str) -> Path:
    """Where the data set is expected: its declared root, else `default` in the data folder."""
    return Path(data.root).expanduser() if data.root is not None else folder / default


def require(path: Path, data_set: str, source: str, data: DataOnDisk) -> None:
    """Raises DataMissingError unless `path` exists."""
    if path.exists():
        return
    point = "change data.root" if data.root is not None else "point to it with data.root=DIR (or --data DIR)"
    raise DataMissingError(f"{data_set} isn't at {path}: get {source}, put it there, or {point}")
