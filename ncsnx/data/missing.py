"""Data sets on disk: where they are expected, and the error for one that is missing."""

from pathlib import Path

from ncsnx.config.data_sets import DataOnDisk
from ncsnx.errors import Hint, NcsnxError
from ncsnx.paths import typed_folder
from ncsnx.spelling import A_DIR, argument

OWN = "this is your own data, so there is nothing to download"
"""Reply to a download of the user's own data."""
_OR_WHERE = Hint("or say where it is", adds="data.root=DIR")


class DataMissingError(NcsnxError):
    """A data set isn't on disk: says how to get it, where to put it, and how to say where it is."""


def root_of(data: DataOnDisk, folder: Path, default: str) -> Path:
    """The data set's folder: `data.root`, else `default` in the data folder. Raises UsageError."""
    return typed_folder(data.root, of="data.root") if data.root is not None else folder / default


def by_hand(
    data_set: str, files: str, page: str, place: str, *, reason: str = "its servers require a login or limit downloads"
) -> DataMissingError:
    """The error for a data set that users download themselves. place: where to put the files, as an imperative."""
    return DataMissingError(
        f"{data_set} cannot be downloaded automatically: {reason}",
        Hint(f"get {files} from {page} and {place}"),
        _OR_WHERE,
    )


def by_data_folder(error: DataMissingError) -> DataMissingError:
    """The same error for callers that accept another data folder, but no changes to the data set."""
    hints = [hint for hint in error.hints if not hint.adds.startswith("data.")]
    label = "or name the data folder" if hints else "name the data folder"
    return DataMissingError(error.message, *hints, Hint(label, adds=argument("data", A_DIR)))


def missing_data(data_set: str, path: Path, *ways: Hint) -> DataMissingError:
    """The error for a data set whose file or folder `path` is missing. ways: how to get it."""
    return DataMissingError(f"{data_set} is not here: {path} is missing", *ways, _OR_WHERE)
