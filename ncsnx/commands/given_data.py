"""Data that commands take: an experiment's, or a file or folder of a person's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import argument, option
from ncsnx.commands.groups import DataChanges, InData, Place
from ncsnx.errors import Hint, UsageError, quoted
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data, OwnData
    from ncsnx.config.experiment import Experiment
    from ncsnx.data.readers.from_path import Reading
    from ncsnx.work import Work

READING_PANEL = "Reading images"
_FIELDS = {
    "size": "image_size",
    "channels": "channels",
    "background": "background",
    "held_out": "held_out",
    "held_out_folder": "held_out_folder",
    "on_error": "on_error",
    "random_crop_from": "random_crop",
    "patches": "patches",
    "array": "array",
}
"""Parameter → field of a data set."""


@attrs.frozen(slots=False, kw_only=True)
class InNamedData(InData):
    """A data set, and the array of its images where a file has several."""

    source: Annotated["Experiment | Place", argument("SOURCE", parse=values.name_or_path)] = attrs.field(kw_only=False)
    """An experiment, a folder or zip of pictures, a file of arrays, or a packed data set."""
    changes: DataChanges = attrs.field(default=(), kw_only=False)
    """Changes to the data set of an experiment."""
    array: Annotated[str | None, option(READING_PANEL, "NAME")] = None
    """Name of the images' array, in a file of several arrays."""

    def reading(self) -> "Reading":
        """How images of one's own are read."""
        return reading_of(self)


@attrs.frozen(slots=False, kw_only=True)
class ReadSimply:
    """How pictures of one's own are read."""

    size: Annotated[
        values.Size | None,
        option(READING_PANEL, "PX|H,W", default="the pictures', at most 64", parse=values.size),
    ] = None
    """Height and width of the images: one number, or both, as in 48,64."""
    on_error: Annotated[Literal["refuse", "skip"] | None, option(READING_PANEL, "refuse|skip", default="refuse")] = None
    """Refuse a set with broken pictures, naming all, or skip and count them."""


@attrs.frozen(slots=False, kw_only=True)
class ReadFully(ReadSimply):
    """How pictures of one's own are read, and which of them are held out."""

    channels: Annotated[int | None, option(READING_PANEL, "N", default="as they are")] = None
    """Channels of pictures: 1 for gray, 3 for color."""
    background: Annotated[str | None, option(READING_PANEL, "COLOR", default="white")] = None
    """Color behind transparent pixels: white, black, gray or #rrggbb."""
    held_out: Annotated[float | None, option(READING_PANEL, "SHARE", default="0.1")] = None
    """Share of the images that is held out."""
    held_out_folder: Annotated[str | None, option(READING_PANEL, "NAME")] = None
    """Hold out this top folder instead of a share."""


def reading_of(given: object) -> "Reading":
    """How images are read, by the parameters that a command has."""
    from ncsnx.data.readers.from_path import Reading

    return Reading(**{field: getattr(given, name, None) for name, field in _FIELDS.items()})


def named_source(source: "Experiment | Place", changes: list[str], folder: Path) -> "Experiment | Path":
    """The experiment that `source` is or names, with changes; or the file or folder. folder: the data folder.

    A name that an experiment has means the experiment, `./NAME` the folder. Raises UsageError where neither exists.
    """
    from ncsnx.config.discovery import UnknownExperimentError, file_and_name, resolve
    from ncsnx.config.experiment import Experiment
    from ncsnx.runs.targets import changed_experiment, typed_target

    if isinstance(source, Experiment):
        return changed_experiment(source, changes)[0]
    source = typed_target(source)
    path = _existing(source, folder)
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


def own(path: Path, reading: "Reading", work: "Work") -> "OwnData":
    """The data set at `path`. Raises UsageError that names the parameter of an invalid field."""
    from ncsnx.config.checks import FieldError
    from ncsnx.data.readers.from_path import data_in

    try:
        return data_in(path, reading, work)
    except FieldError as error:
        raise UsageError(f"{_parameter_of(error.field)} {error.complaint}") from error


def refuse_reading(source: object, data: "Data", reading: "Reading") -> None:
    """Raises UsageError for a parameter about reading images, where the source is an experiment on `data`."""
    from ncsnx.config.codec import shown

    for field, value in reading.given().items():
        hints = [Hint(f"for a folder of that name, write ./{source}")]
        if field in attrs.fields_dict(type(data)):
            hints.insert(0, Hint("change the experiment instead", adds=f"data.{field}={shown(value)}"))
        raise UsageError(f"{_parameter_of(field)} goes with your own images, but {source} is an experiment", *hints)


def _parameter_of(field: str) -> str:
    """The parameter for a field, as it is spelled; the field itself where there is none."""
    return next((parameter(name) for name, other in _FIELDS.items() if other == field), field)


def _existing(source: str, folder: Path) -> Path | None:
    from ncsnx.config.discovery import file_and_name
    from ncsnx.data import DataMissingError
    from ncsnx.data.places import existing_path

    try:
        return None if file_and_name(source)[0] is not None else existing_path(source, folder)
    except (DataMissingError, OSError, ValueError):
        return None
