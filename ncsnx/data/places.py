"""Places of data: the data folder, paths of the user's own data, errors for missing data, and fingerprints.

Fingerprints tell data sets apart whatever folder they are in.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ncsnx.bounded_reads import opened, reading
from ncsnx.config.codec import digest
from ncsnx.config.data_sets import DataOnDisk
from ncsnx.errors import Hint, NcsnxError
from ncsnx.paths import checked_folder, checked_path, exists, folder_of
from ncsnx.spelling import A_DIR, argument

_OR_WHERE = Hint("or say where it is", adds="data.root=DIR")


class DataMissingError(NcsnxError):
    """A data set isn't on disk: says how to get it, where to put it, and how to say where it is."""


def root_of(data: DataOnDisk, folder: Path, default: str) -> Path:
    """The data set's folder: `data.root`, else `default` in the data folder. Raises UsageError."""
    return checked_folder(data.root, of="data.root") if data.root is not None else folder / default


def by_data_folder(error: DataMissingError) -> DataMissingError:
    """The same error for callers that accept another data folder, but no changes to the data set."""
    hints = [hint for hint in error.hints if not hint.adds.startswith("data.")]
    label = "or name the data folder" if hints else "name the data folder"
    return DataMissingError(error.message, *hints, Hint(label, adds=argument("data", A_DIR)))


def missing_data(data_set: str, path: Path, *ways: Hint) -> DataMissingError:
    """The error for a data set whose file or folder `path` is missing. ways: how to get it."""
    return DataMissingError(f"{data_set} is not here: {path} is missing", *ways, _OR_WHERE)


def data_folder(given: Path | None = None) -> Path:
    """The data folder: `given`, else the environment variable NCSNX_DATA, else ./data.

    Raises UsageError for a path that isn't a folder.
    """
    return folder_of(given, "NCSNX_DATA", "data")


def existing_path(path: str, folder: Path, *, field: str = "path") -> Path:
    """The file or folder at `path`. A relative path is looked up in the current folder, then in the data folder.

    folder: the data folder. field: name of the data set's field, for the error. Raises DataMissingError, and UsageError
    for an invalid path.
    """
    declared = checked_path(path, of=f"data.{field}")
    places = [declared] if declared.is_absolute() else [Path.cwd() / declared, folder.absolute() / declared]
    for place in dict.fromkeys(places):
        if exists(place):
            return place
    looked = " nor at ".join(map(str, dict.fromkeys(places)))
    raise DataMissingError(
        f"your data is not at {looked}",
        Hint("put it there, or say where it is", adds=f"data.{field}={'DIR' if field == 'root' else 'FILE'}"),
    )


def declared(path: Path) -> str:
    """A path as experiments write it: relative if it is inside the current folder, else absolute.

    Raises NcsnxError for a path that isn't printable.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (resolve would follow links, which may change)
    inside = str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
    text = f"./{inside}" if inside.startswith("~") else inside  # ~ would be expanded to a home folder
    if not text.isprintable():
        raise NcsnxError(f"{text!a} is not printable, so an experiment cannot name it; rename it")
    return text


SAMPLED_BYTES = 64 * 1024
"""Bytes read at the beginning, the middle and the end of each file."""


def fingerprint_of_bytes(name: str, *contents: bytes) -> str:
    """Fingerprint of data that isn't in a file. It covers every byte."""
    return digest([name, *(hashlib.sha256(content).hexdigest() for content in contents)])


def fingerprint_of_files(root: Path, files: Iterable[Path]) -> str:
    """Fingerprint of files under `root`: relative names, sizes, and a sample of the bytes."""
    return digest([[str(path.relative_to(root)), *_sampled(path)] for path in sorted(files)])


def _sampled(path: Path) -> tuple[int, str]:
    content = hashlib.sha256()
    with reading(path), opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        for start in sorted({0, max(0, size // 2), max(0, size - SAMPLED_BYTES)}):
            file.seek(start)
            content.update(file.read(SAMPLED_BYTES))
    return size, content.hexdigest()
