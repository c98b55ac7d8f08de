"""What the `data` commands take: an experiment's data set, a packed file, a folder or zip of pictures, or arrays."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from ncsnx.config.checks import FieldError
from ncsnx.config.data import Arrays, Data, Images, Packed
from ncsnx.config.discovery import UnknownExperimentError, resolve
from ncsnx.errors import UsageError

if TYPE_CHECKING:
    from ncsnx.work import Work

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")

Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="An experiment, a folder or zip of pictures, arrays, or a packed file.")
]
Changes = Annotated[
    list[str] | None, typer.Argument(metavar="data.FIELD=VALUE", help="Changes to an experiment's data set.")
]
Size = Annotated[int | None, typer.Option("--size", metavar="PIXELS", help="Height and width of the images.")]
Channels = Annotated[
    int | None, typer.Option("--channels", metavar="N", help="1: grey, 3: colour. [as the pictures are]")
]
Background = Annotated[
    str | None, typer.Option("--background", help="Behind transparent pixels: white, black, grey or #rrggbb. [white]")
]
HeldOut = Annotated[float | None, typer.Option("--held-out", metavar="SHARE", help="Share that is held out. [0.1]")]
HeldOutFolder = Annotated[
    str | None, typer.Option("--held-out-folder", metavar="NAME", help="Top folder that is held out, instead.")
]
OnError = Annotated[
    str | None, typer.Option("--on-error", help="What broken pictures do: refuse the set, or skip them. [refuse]")
]
RandomCropFrom = Annotated[
    int | None,
    typer.Option("--random-crop-from", metavar="PIXELS", help="Keep squares of this size, to crop at random later."),
]
_FIELDS = {
    "image_size": "--size",
    "channels": "--channels",
    "background": "--background",
    "held_out": "--held-out",
    "held_out_folder": "--held-out-folder",
    "on_error": "--on-error",
    "random_crop": "--random-crop-from",
}


@attrs.frozen(kw_only=True)
class Reading:
    """How a person's own images are to be read; None where nothing was said."""

    image_size: int | None = None
    channels: int | None = None
    background: str | None = None
    held_out: float | None = None
    held_out_folder: str | None = None
    on_error: str | None = None
    random_crop: int | None = None

    def given(self) -> dict[str, Any]:
        """The fields that were given."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}


@attrs.frozen
class Meant:
    """What SOURCE means."""

    name: str
    """For a person, and for files that are made of it."""
    data: Data
    path: Path | None
    """The folder or file; None for an experiment."""


def meant(
    source: str, changes: list[str] | None, reading: Reading, folder: Path, work: "Work", size: int | None = None
) -> Meant:
    """The data set that `source` means. folder: the data folder; size: of images where none is given.

    A name that an experiment has means the experiment, `./NAME` the folder. Raises UsageError for what is neither an
    experiment nor there, and for options that don't go with it.
    """
    path = _found(source, folder)
    if path is None or not ("/" in source or path.is_file()):
        try:
            return _of_experiment(source, changes, reading)
        except UnknownExperimentError as error:
            if path is None:
                raise UsageError(f"{error} Nor is there a file or folder of that name here or in {folder}.") from error
    if changes:
        raise UsageError(f"{source} isn't an experiment: {changes[0]} can't change it; give options, such as --size")
    name = path.stem if path.is_file() else path.resolve().name
    try:
        return Meant(name, _of_path(path, reading, work, size), path)
    except FieldError as error:
        raise UsageError(f"{_FIELDS.get(error.field, error.field)} {error.complaint}") from error


def _found(source: str, folder: Path) -> Path | None:
    from ncsnx.data import DataMissingError
    from ncsnx.data.places import own_path

    try:
        return None if source.endswith(".py") or ".py:" in source else own_path(source, folder)
    except (DataMissingError, OSError, ValueError):
        return None


def _of_experiment(source: str, changes: list[str] | None, reading: Reading) -> Meant:
    experiment = resolve(source, changes).experiment
    if given := reading.given():
        field = next(iter(given))
        raise UsageError(
            f"{source} is an experiment, which says how its images are read: leave out {_FIELDS[field]}, or change the "
            f"experiment with data.FIELD=VALUE; for a folder of that name, type ./{source}"
        )
    return Meant(experiment.name, experiment.data, None)


def _of_path(path: Path, reading: Reading, work: "Work", size: int | None) -> Data:
    from ncsnx.data.packed import PackedFile, is_packed

    given = reading.given()
    if path.is_file() and is_packed(path):
        if given:
            raise UsageError(f"{path} is packed already, at its own size: leave out {_FIELDS[next(iter(given))]}")
        header = PackedFile.open(path).header
        return Packed(path=str(path.absolute()), image_size=header.size, channels=header.channels)
    given.setdefault("image_size", size)
    if given["image_size"] is None:
        raise UsageError(f"{path}: say how large the images are to be, as in --size 64")
    if path.is_file() and path.suffix.lower() in ARRAY_SUFFIXES:
        return _arrays(path, given)
    if given.get("on_error", "refuse") not in ("refuse", "skip"):
        raise UsageError(f"--on-error must be refuse or skip, not {given['on_error']!r}")
    given.setdefault("channels", _channels(path, work))
    return Images(root=str(path.absolute()), **given)


def _arrays(path: Path, given: dict[str, Any]) -> Data:
    known = {field.name for field in attrs.fields(Arrays)}
    if unknown := [name for name in given if name not in known]:
        raise UsageError(f"{path} holds arrays, not pictures: leave out {_FIELDS[unknown[0]]}")
    return Arrays(path=str(path.absolute()), **given)


def _channels(path: Path, work: "Work") -> int:
    """1 where every picture is grey."""
    from ncsnx.data.image_files import ImageFiles
    from ncsnx.data.scan import scan_of

    scan = scan_of(ImageFiles.open(path), work)
    return 1 if scan.grey == scan.sound else 3
