"""Where data is: the data folder, and the path of a person's own data, from the current folder or from that one."""

import os
from pathlib import Path

from ncsnx.config.checks import quoted
from ncsnx.config.data_sets import Data, place_fields
from ncsnx.config.discovery import discover
from ncsnx.data.missing import DataMissingError
from ncsnx.errors import NcsnxError
from ncsnx.paths import exists, folder_of, typed_path


def data_folder(given: Path | None = None) -> Path:
    """Where data sets live: `given`, else the variable NCSNX_DATA, else ./data.

    Raises UsageError for something that isn't a folder.
    """
    return folder_of(given, "NCSNX_DATA", "data")


def own_path(path: str, folder: Path, *, field: str = "path") -> Path:
    """The file or folder that `path` names: absolute as it is, else in the current folder, else in the data folder.

    folder: the data folder; field: the field of the data set that names it, for the error. Raises DataMissingError,
    and UsageError for what can't be a path.
    """
    declared = typed_path(path, of=f"data.{field}")
    places = [declared] if declared.is_absolute() else [Path.cwd() / declared, folder.absolute() / declared]
    for place in dict.fromkeys(places):
        if exists(place):
            return place
    looked = " nor at ".join(map(str, dict.fromkeys(places)))
    raise DataMissingError(
        f"your data is not at {looked}: bring it there, or say where it is with data.{field}="
        f"{'DIR' if field == 'root' else 'FILE'}"
    )


def require_own(data: Data, fingerprint: str | None, where: Path) -> None:
    """Refuses data that a run or an exported model alone names, wherever on this machine that leads.

    where: the run's or model's folder; fingerprint: of the data, as recorded there. With one, nothing is made of other
    data than those. Without, the data must be those of an experiment that is known here. Raises NcsnxError.
    """
    places = place_fields(data)
    if fingerprint is not None or not places:
        return
    files = (source.file for source in discover())
    known = [registered.experiment.data for file in files if file is not None for registered in file.registered]
    if data not in known:
        field = places[0]
        raise NcsnxError(
            f"{where} says that its data is at {quoted(getattr(data, field))}, and nothing shows that: it has no "
            f"fingerprint of them, and no experiment here has these data. They are read once a file in ./experiments "
            f"has an experiment with the same data (`ncsnx show {where}`)"
        )


def declared(path: Path) -> str:
    """A path as an experiment names it: relative to the current folder if it is inside, else absolute.

    Raises NcsnxError for one that no experiment can name.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (resolve would follow links, which may change)
    inside = str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
    text = f"./{inside}" if inside.startswith("~") else inside  # a ~ would be taken for a home
    if not text.isprintable():
        raise NcsnxError(f"{text!a}: an experiment cannot name this path, which is not printable text; rename it")
    return text
