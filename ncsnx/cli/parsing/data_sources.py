"""What SOURCE means to the commands that take data: an experiment, or a place where a person's own data is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ncsnx.cli.path_parameters import a_name_or_path
from ncsnx.config.checks import FieldError
from ncsnx.config.discovery import UnknownExperimentError, file_and_name, resolve
from ncsnx.errors import UsageError

if TYPE_CHECKING:
    from ncsnx.config.data_sets import OwnData
    from ncsnx.config.experiment import Experiment
    from ncsnx.data.readers.from_path import Reading
    from ncsnx.work import Work

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        parser=a_name_or_path,
        help="An experiment, a folder or zip of pictures, arrays, or a packed file.",
    ),
]
Changes = Annotated[
    list[str] | None, typer.Argument(metavar="data.FIELD=VALUE", help="Changes to an experiment's data set.")
]
Size = Annotated[
    int | None,
    typer.Option("--size", metavar="PIXELS", help="Height and width of the images. [the pictures', at most 64]"),
]
Channels = Annotated[
    int | None, typer.Option("--channels", metavar="N", help="Of pictures: 1 grey, 3 colour. [as they are]")
]
Background = Annotated[
    str | None, typer.Option("--background", help="Behind transparent pixels: white, black, grey or #rrggbb. [white]")
]
HeldOut = Annotated[float | None, typer.Option("--held-out", metavar="SHARE", help="Share that is held out. [0.1]")]
HeldOutFolder = Annotated[
    str | None, typer.Option("--held-out-folder", metavar="NAME", help="Top folder that is held out, instead.")
]
OnError = Annotated[
    Literal["refuse", "skip"] | None,
    typer.Option("--on-error", help="What broken pictures do: refuse the set, naming all; or be skipped, counted."),
]
RandomCropFrom = Annotated[
    int | None,
    typer.Option("--random-crop-from", metavar="PIXELS", help="Keep squares of this size, to crop at random later."),
]
ArrayName = Annotated[
    str | None, typer.Option("--array", metavar="NAME", help="Of the images, in a file of several arrays.")
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
"""Field of a data set → the option that says it."""


def meant(source: str, changes: list[str] | None, folder: Path) -> "Experiment | Path":
    """The experiment that `source` names, changed; or the file or folder there. folder: the data folder.

    A name that an experiment has means the experiment, `./NAME` the folder. Raises UsageError for what is neither an
    experiment nor there.
    """
    path = _found(source, folder)
    if path is not None and ("/" in source or path.is_file()):
        return path
    if "/" in source and file_and_name(source)[0] is None:
        raise UsageError(
            f"{source}: there is nothing, here or in {folder}; expected a folder or zip of pictures, arrays, or a "
            "packed file"
        )
    try:
        return resolve(source, changes).experiment
    except UnknownExperimentError as error:
        if path is not None:
            return path
        raise UnknownExperimentError(
            f"{error}; nor is there a file or folder of that name, here or in {folder}"
        ) from error


def own(path: Path, said: "Reading", work: "Work") -> "OwnData":
    """`own_data`, whose complaints name the options of the command."""
    from ncsnx.data.readers.from_path import own_data

    try:
        return own_data(path, said, work)
    except FieldError as error:
        raise UsageError(f"{OPTIONS.get(error.field, error.field)} {error.complaint}") from error


def refuse_options(source: str, said: "Reading") -> None:
    """Raises UsageError where an option says how an experiment's images are to be read."""
    for field in said.given():
        raise UsageError(
            f"{OPTIONS[field]} goes with your own images, but {source} is an experiment, which says how its images are "
            f"read: change it with data.{field}=VALUE; for a folder of that name, type ./{source}"
        )


def _found(source: str, folder: Path) -> Path | None:
    from ncsnx.data import DataMissingError
    from ncsnx.data.places import own_path

    try:
        return None if file_and_name(source)[0] is not None else own_path(source, folder)
    except (DataMissingError, OSError, ValueError):
        return None
