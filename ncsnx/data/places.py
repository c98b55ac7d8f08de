"""Where a person's own data is: its path as declared, looked for in the current folder, then in the data folder."""

import os
from pathlib import Path

from ncsnx.data.missing import DataMissingError
from ncsnx.errors import NcsnxError


def own_path(path: str, folder: Path, *, field: str = "path") -> Path:
    """The file or folder that `path` names: absolute as it is, else in the current folder, else in the data folder.

    folder: the data folder; field: the field of the data set that names it, for the error. Raises DataMissingError.
    """
    declared = Path(path).expanduser()
    places = [declared] if declared.is_absolute() else [Path.cwd() / declared, folder.absolute() / declared]
    for place in dict.fromkeys(places):
        if place.exists():
            return place
    looked = " nor at ".join(map(str, dict.fromkeys(places)))
    raise DataMissingError(
        f"your data isn't at {looked}: bring it there, or say where it is with data.{field}="
        f"{'DIR' if field == 'root' else 'FILE'}"
    )


def declared(path: Path) -> str:
    """A path as an experiment names it: relative to the current folder if it is inside, else absolute.

    Raises NcsnxError for one that no experiment can name.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (resolve would follow links, which may change)
    inside = str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
    text = f"./{inside}" if inside.startswith("~") else inside  # a ~ would be taken for a home
    if not text.isprintable():
        raise NcsnxError(f"{text!a}: an experiment can't name this path, which isn't printable text; rename it")
    return text
