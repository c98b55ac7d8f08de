"""Where a person's own data is: its path as declared, looked for in the current folder, then in the data folder."""

from pathlib import Path

from ncsnx.data.missing import DataMissingError


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
