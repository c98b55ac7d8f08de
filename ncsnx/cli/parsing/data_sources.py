"""The SOURCE of commands that take data: an experiment, or a file or folder of a person's own data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ncsnx.cli.parameters import a_name_or_path, a_size

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data, OwnData
    from ncsnx.config.experiment import Experiment
    from ncsnx.data.readers.from_path import Reading
    from ncsnx.work import Work

READING_PANEL = "Reading images"
"""Panel of the help."""
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        parser=a_name_or_path,
        help="An experiment, a folder or zip of pictures, a file of arrays, or a packed data set.",
    ),
]
Changes = Annotated[
    list[str] | None, typer.Argument(metavar="data.FIELD=VALUE", help="Changes to the data set of an experiment.")
]
Size = Annotated[
    Any | None,
    typer.Option(
        "--size",
        metavar="PX|H,W",
        parser=a_size,
        help="Height and width of the images: one number, or both, as in 48,64.",
        show_default="the pictures', at most 64",
        rich_help_panel=READING_PANEL,
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        "--channels",
        metavar="N",
        help="Channels of pictures: 1 for grey, 3 for colour.",
        show_default="as they are",
        rich_help_panel=READING_PANEL,
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        metavar="COLOUR",
        help="Colour behind transparent pixels: white, black, grey or #rrggbb.",
        show_default="white",
        rich_help_panel=READING_PANEL,
    ),
]
HeldOut = Annotated[
    float | None,
    typer.Option(
        "--held-out",
        metavar="SHARE",
        help="Share of the images that is held out.",
        show_default="0.1",
        rich_help_panel=READING_PANEL,
    ),
]
HeldOutFolder = Annotated[
    str | None,
    typer.Option(
        "--held-out-folder",
        metavar="NAME",
        help="Hold out this top folder instead of a share.",
        rich_help_panel=READING_PANEL,
    ),
]
OnError = Annotated[
    Literal["refuse", "skip"] | None,
    typer.Option(
        "--on-error",
        metavar="refuse|skip",
        help="For broken pictures: refuse the set, naming all, or skip and count them.",
        show_default="refuse",
        rich_help_panel=READING_PANEL,
    ),
]
RandomCropFrom = Annotated[
    Any | None,
    typer.Option(
        "--random-crop-from",
        metavar="PX|H,W",
        parser=a_size,
        help="Keep images of this larger size, which training crops at random.",
        rich_help_panel=READING_PANEL,
    ),
]
ArrayName = Annotated[
    str | None,
    typer.Option(
        "--array",
        metavar="NAME",
        help="Name of the images' array, in a file of several arrays.",
        rich_help_panel=READING_PANEL,
    ),
]
OPTIONS = {
    "image_size": "--size",
    "channels": "--channels",
    "background": "--background",
    "held_out": "--held-out",
    "held_out_folder": "--held-out-folder",
    "on_error": "--on-error",
    "random_crop": "--random-crop-from",
    "array": "--array",
}
"""Field of a data set → its option."""


def meant(source: str, changes: list[str] | None, folder: Path) -> "Experiment | Path":
    """The experiment that `source` names, with changes; or the file or folder. folder: the data folder.

    A name that an experiment has means the experiment, `./NAME` the folder. Raises UsageError where neither exists.
    """
    from ncsnx.config.checks import quoted
    from ncsnx.config.discovery import UnknownExperimentError, file_and_name, resolve
    from ncsnx.errors import UsageError

    path = _found(source, folder)
    if path is not None and ("/" in source or path.is_file()):
        return path
    if "/" in source and file_and_name(source)[0] is None:
        raise UsageError(
            f"{source} does not exist, here or in {folder}; expected a folder or zip of pictures, a file of arrays, or "
            "a packed data set"
        )
    try:
        return resolve(source, changes).experiment
    except UnknownExperimentError as error:
        if path is not None:
            return path
        raise UnknownExperimentError(
            f"there is no file or folder {quoted(source)}, here or in {folder}, and {error.message}", *error.hints
        ) from error


def own(path: Path, said: "Reading", work: "Work") -> "OwnData":
    """The data set at `path`. Raises UsageError that names the option of an invalid field."""
    from ncsnx.config.checks import FieldError
    from ncsnx.data.readers.from_path import own_data
    from ncsnx.errors import UsageError

    try:
        return own_data(path, said, work)
    except FieldError as error:
        raise UsageError(f"{OPTIONS.get(error.field, error.field)} {error.complaint}") from error


def refuse_options(source: str, data: "Data", said: "Reading") -> None:
    """Raises UsageError for an option about reading images, where the source is an experiment on `data`."""
    import attrs

    from ncsnx.config.differences import shown
    from ncsnx.errors import Hint, UsageError

    for field, value in said.given().items():
        hints = [Hint(f"for a folder of that name, write ./{source}")]
        if field in attrs.fields_dict(type(data)):
            hints.insert(0, Hint("change the experiment instead", adds=f"data.{field}={shown(value)}"))
        raise UsageError(f"{OPTIONS[field]} goes with your own images, but {source} is an experiment", *hints)


def _found(source: str, folder: Path) -> Path | None:
    from ncsnx.config.discovery import file_and_name
    from ncsnx.data import DataMissingError
    from ncsnx.data.places import own_path

    try:
        return None if file_and_name(source)[0] is not None else own_path(source, folder)
    except (DataMissingError, OSError, ValueError):
        return None
