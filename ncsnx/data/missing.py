"""Data sets that a person has to bring: where they are expected, and what to say when they aren't there."""

from pathlib import Path

from ncsnx.config.data_sets import DataOnDisk
from ncsnx.errors import Hint, NcsnxError
from ncsnx.paths import typed_folder

OWN = "this is data of your own, so there is nothing to download"
"""What is said of a download of data that a person brings."""


class DataMissingError(NcsnxError):
    """A data set isn't on the disk: says what to get, where to put it, and how to point to it."""


def root_of(data: DataOnDisk, folder: Path, default: str) -> Path:
    """Where the data set is expected: its declared root, else `default` in the data folder. Raises UsageError."""
    return typed_folder(data.root, of="data.root") if data.root is not None else folder / default


def by_hand(data_set: str, files: str, page: str, place: str) -> DataMissingError:
    """The error for a data set that no program can get. place: where to put the files, as an imperative."""
    return DataMissingError(
        f"{data_set} cannot be downloaded by a program, since its servers ask for a login or limit downloads",
        Hint(f"get {files} from {page}, and {place}"),
        Hint("or say where it is", adds="data.root=DIR"),
    )


def require(root: Path, name: str, data_set: str, source: str) -> None:
    """Raises DataMissingError unless `root` holds the file or folder `name`. source: what to get, and from where."""
    if (root / name).exists():
        return
    raise DataMissingError(
        f"{data_set} is not here: {root / name} is missing",
        Hint(f"get {source}, and put it into {root}"),
        Hint("or say where it is", adds="data.root=DIR"),
    )
