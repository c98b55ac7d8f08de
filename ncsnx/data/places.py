"""Locations of data: the data folder, and paths of the user's own data."""

import os
import shlex
from pathlib import Path

from ncsnx.config.checks import quoted
from ncsnx.config.data_sets import Data, place_fields
from ncsnx.config.discovery import discover
from ncsnx.data.missing import DataMissingError
from ncsnx.errors import Hint, NcsnxError
from ncsnx.paths import exists, folder_of, typed_path


def data_folder(given: Path | None = None) -> Path:
    """The data folder: `given`, else the environment variable NCSNX_DATA, else ./data.

    Raises UsageError for a path that isn't a folder.
    """
    return folder_of(given, "NCSNX_DATA", "data")


def own_path(path: str, folder: Path, *, field: str = "path") -> Path:
    """The file or folder at `path`. A relative path is looked up in the current folder, then in the data folder.

    folder: the data folder. field: name of the data set's field, for the error. Raises DataMissingError, and UsageError
    for an invalid path.
    """
    declared = typed_path(path, of=f"data.{field}")
    places = [declared] if declared.is_absolute() else [Path.cwd() / declared, folder.absolute() / declared]
    for place in dict.fromkeys(places):
        if exists(place):
            return place
    looked = " nor at ".join(map(str, dict.fromkeys(places)))
    raise DataMissingError(
        f"your data is not at {looked}",
        Hint("put it there, or say where it is", adds=f"data.{field}={'DIR' if field == 'root' else 'FILE'}"),
    )


def require_own(data: Data, fingerprint: str | None, where: Path) -> None:
    """Refuses a data path that only a run or an exported model names: it could be any path on this machine.

    where: the folder of the run or model. fingerprint: the recorded fingerprint of its data. With a fingerprint no
    further check is needed, since any other data is refused later. Without one, an experiment here must have the same
    data. Raises NcsnxError.
    """
    places = place_fields(data)
    if fingerprint is not None or not places:
        return
    files = (source.file for source in discover())
    known = [registered.experiment.data for file in files if file is not None for registered in file.registered]
    if data not in known:
        field = places[0]
        raise NcsnxError(
            f"{where} refers to data at {quoted(getattr(data, field))}, but has no fingerprint to check it, and no "
            "experiment here has the same data",
            Hint("add an experiment with the same data to ./experiments"),
            Hint("to see its fields", f"ncsnx show {shlex.quote(str(where))}"),
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
