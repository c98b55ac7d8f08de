"""`ncsnx data`: packs, checks, shows and downloads data sets."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from ncsnx.cli import data_sources as sources
from ncsnx.cli import options
from ncsnx.cli.command_registry import DATA_PANEL, group
from ncsnx.cli.parameters import a_name_or_path, a_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of
from ncsnx.quantities import byte_size, counted

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data, Packed
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.data import Splits
    from ncsnx.data.image_files import ImageFiles
    from ncsnx.data.readers.from_path import Reading
    from ncsnx.data.readers.packed import PackedFolder
    from ncsnx.data.scan import Scan
    from ncsnx.data.summary import Summary
    from ncsnx.work import Work

data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Inspect, check, pack and download data sets.")
group("data", data_app, panel=DATA_PANEL, place=100)

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=0,
        max=256,
        help="Processes that decode images.",
        show_default="one per processor",
        rich_help_panel=options.EXECUTION_PANEL,
    ),
]
_SHEET = "Contact sheet"
_WORTH_WORKERS = 256
"""Fewer images are decoded before the processes have started."""
_MOST_NAMED = 20


@data_app.command("pack")
def pack_command(
    source: sources.SourceArgument,
    changes: sources.Changes = None,
    size: sources.Size = None,
    channels: sources.Channels = None,
    background: sources.Background = None,
    held_out: sources.HeldOut = None,
    held_out_folder: sources.HeldOutFolder = None,
    on_error: sources.OnError = None,
    random_crop_from: sources.RandomCropFrom = None,
    array: sources.ArrayName = None,
    data: options.DataFolder = None,
    workers: Workers = None,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FOLDER", parser=a_path, help="The folder to write.", rich_help_panel=options.OUTPUT_PANEL
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another packed data set.", rich_help_panel=options.OUTPUT_PANEL)
    ] = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Decode every image once, into a folder for training.

    Training reads it without decoding. The folder keeps the split into training and held-out images.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.data import data_folder
        from ncsnx.data.readers.from_path import Reading
        from ncsnx.data.readers.packed import pack, settings_of
        from ncsnx.stopping import StopRequest

        said = Reading(
            image_size=size,
            channels=channels,
            background=background,
            held_out=held_out,
            held_out_folder=held_out_folder,
            on_error=on_error,
            random_crop=random_crop_from,
            array=array,
        )
        with StopRequest() as stop:
            work = work_of(messages, stop)
            what = _meant(source, changes, said, data_folder(data), work, must_say_size=True)
            splits = _opened(what, work)
            settings, count = settings_of(what.data), _workers(workers, splits)
            packed = pack(splits, out, settings=settings, work=work, workers=count, overwrite=overwrite)
        if json:
            messages.json(_packed_facts(packed))
        _say_how_to_train(messages, packed, what.data)


@data_app.command("check")
def check_command(
    source: sources.SourceArgument,
    changes: sources.Changes = None,
    array: sources.ArrayName = None,
    data: options.DataFolder = None,
    workers: Workers = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Read a whole data set and report damage.

    Compares packed images with their checksums, and decodes pictures. Exits with 1 for damage.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.config.data_sets import Packed
        from ncsnx.data import data_folder
        from ncsnx.data.readers.from_path import Reading
        from ncsnx.stopping import StopRequest

        with StopRequest() as stop:
            work, folder = work_of(messages, stop), data_folder(data)
            files = _picture_files(sources.meant(source, changes, folder), folder)
            if files is not None:
                found = _check_pictures(files, work)
            else:
                what = _meant(source, changes, Reading(array=array), folder, work)
                if isinstance(what.data, Packed):
                    found = _check_packed(what.data, folder, work)
                else:
                    found = _check_by_reading(what, workers, work)
        messages.info(f"{source}: {found}; no damage found")


@data_app.command("show")
def data_show_command(
    source: sources.SourceArgument,
    changes: sources.Changes = None,
    size: sources.Size = None,
    channels: sources.Channels = None,
    background: sources.Background = None,
    held_out: sources.HeldOut = None,
    held_out_folder: sources.HeldOutFolder = None,
    on_error: sources.OnError = None,
    array: sources.ArrayName = None,
    n: Annotated[
        int,
        typer.Option("--n", metavar="N", min=1, max=1_024, help="Images on the sheet.", rich_help_panel=_SHEET),
    ] = 64,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="SEED",
            min=0,
            max=2**32 - 1,
            help="Determines which images those are.",
            rich_help_panel=_SHEET,
        ),
    ] = 0,
    data: options.DataFolder = None,
    workers: Workers = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.png",
            parser=a_path,
            help="The contact sheet.",
            show_default="NAME-sheet.png",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Show statistics of a data set, and write a contact sheet.

    The statistics are counts, shapes, labels, and the mean and standard deviation of each channel.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.data import data_folder
        from ncsnx.data.readers.from_path import Reading
        from ncsnx.data.scan import scan_of
        from ncsnx.data.summary import contact_sheet, summarize
        from ncsnx.data.transforms import window_of
        from ncsnx.errors import UsageError
        from ncsnx.images import save_png
        from ncsnx.stopping import StopRequest
        from ncsnx.work import ignore_message

        if out is not None and out.suffix.lower() != ".png":
            raise UsageError(f"--out {out}: the contact sheet is a PNG; give a name that ends in .png")
        said = Reading(
            image_size=size,
            channels=channels,
            background=background,
            held_out=held_out,
            held_out_folder=held_out_folder,
            on_error=on_error,
            array=array,
        )
        with StopRequest() as stop:
            work = work_of(messages, stop)
            what = _meant(source, changes, said, data_folder(data), work)
            splits = _opened(what, attrs.evolve(work, info=ignore_message))  # the table lists unread files
            what = _measured(what, splits)
            summary = summarize(splits, work, _workers(workers, splits), is_bounded=what.data.is_bounded)
            files = _own_files(what)
            scan = None if files is None else scan_of(files, work)
            sheet = out or Path(f"{what.name}-sheet.png")
            shown = splits.train if len(splits.train) else splits.held_out
            save_png(sheet, contact_sheet(shown, n, seed, None if what.data.is_bounded else window_of(what.data)))
        if json:
            messages.json(_facts(what, summary, files, scan, sheet))
        else:
            _show(messages, what, summary, files, scan)
        messages.info(f"contact sheet: {sheet}")


@data_app.command("download")
def data_download_command(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", parser=a_name_or_path, help="An experiment with that data set.")
    ],
    changes: sources.Changes = None,
    data: options.DataFolder = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Download the data set of an experiment.

    For a data set that ncsnx can't download, says what to download and where to put it.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.config.discovery import resolve
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import data_folder
        from ncsnx.data.registry import download_data
        from ncsnx.stopping import StopRequest

        config = resolve(experiment, changes).experiment.data
        load_plugins("ncsnx.runtime")
        with StopRequest() as stop:
            download_data(config, data_folder(data), work_of(messages, stop))
        messages.info(f"next: ncsnx data show {shlex.join([experiment, *(changes or [])])}")


@attrs.frozen
class _Meant:
    """The data set of a command."""

    name: str
    """Name for messages, and for files made from the data."""
    data: "Data"
    folder: Path
    """The data folder."""


def _meant(
    source: str,
    changes: list[str] | None,
    said: "Reading",
    folder: Path,
    work: "Work",
    *,
    must_say_size: bool = False,
) -> _Meant:
    from ncsnx.data.readers.from_path import holds_pictures
    from ncsnx.errors import Hint, UsageError

    found = sources.meant(source, changes, folder)
    if not isinstance(found, Path):
        sources.refuse_options(source, found.data, said)
        return _Meant(found.name, found.data, folder)
    if changes:
        raise UsageError(
            f"{source} is not an experiment, so {changes[0]} cannot change it; give options instead, such as --size"
        )
    if must_say_size and holds_pictures(found) and said.image_size is None:
        raise UsageError(f"{source}: the size of the images is not given", Hint("for example", adds="--size 64"))
    name = found.stem if found.is_file() else found.resolve().name
    return _Meant(name, sources.own(found, said, work), folder)


def _opened(what: _Meant, work: "Work") -> "Splits":
    from ncsnx.config.variants import load_plugins
    from ncsnx.data import open_data

    load_plugins("ncsnx.runtime")
    return open_data(what.data, what.folder, work)


def _measured(what: _Meant, splits: "Splits") -> _Meant:
    """The data set of a command, with its measured scale and window if it is unbounded."""
    from ncsnx.config.data_sets import NumericData
    from ncsnx.data.value_statistics import measured_data

    if not isinstance(what.data, NumericData):
        return what
    return attrs.evolve(what, data=measured_data(what.data, splits.magnitudes))


def _workers(given: int | None, splits: "Splits") -> int:
    """Processes that decode."""
    from ncsnx.data.read_ahead import processors

    if given is not None:
        return given
    is_worth_it = len(splits.train) + len(splits.held_out) >= _WORTH_WORKERS
    return processors() if is_worth_it and processors() > 1 else 0


def _packed_facts(packed: "PackedFolder") -> dict[str, Any]:
    record = packed.record
    return {
        "path": str(packed.path),
        "fingerprint": packed.fingerprint,
        "train": record.train,
        "held_out": record.count - record.train,
        "channels": record.channels,
        "size": record.size,
        "bytes": packed.nbytes,
    }


def _say_how_to_train(messages: "Messages", packed: "PackedFolder", data: "Data") -> None:
    record = packed.record
    messages.info(
        f"{packed.path}: {counted(record.train, 'training image')} and {record.count - record.train:,} held out, of "
        f"{'×'.join(map(str, record.shape))}, {byte_size(packed.nbytes)}"
    )
    messages.info(f"to train from it:  ncsnx train EXPERIMENT {shlex.join(_overrides(packed, data))}")


def _overrides(packed: "PackedFolder", data: "Data") -> list[str]:
    """Overrides with which an experiment reads the packed images, and treats its pixels as those of the source."""
    from ncsnx.config.data_sets import Data
    from ncsnx.config.image_sizes import size_as_typed

    size, stored = data.shape[1:], data.stored_size
    fields: dict[str, Any] = {"path": packed.path, "image_size": size_as_typed(size)}
    if stored != size:
        fields["random_crop"] = size_as_typed(stored)
    if packed.record.channels != 3:
        fields["channels"] = packed.record.channels
    if packed.record.bounds == "unbounded":
        fields["range"] = packed.record.bounds
    if packed.record.complex:
        fields["complex"] = "true"
    if (scale := getattr(data, "scale", None)) is not None:
        fields["scale"] = f"{scale:.9g}"
    for field in attrs.fields(Data):
        value = getattr(data, field.name)
        if value != field.default:
            fields[field.name] = str(value).lower()
    return ["data=packed", *(f"data.{name}={value}" for name, value in fields.items())]


def _check_packed(data: "Packed", folder: Path, work: "Work") -> str:
    from ncsnx.data.places import own_path
    from ncsnx.data.readers.packed import PackedFolder, open_packed
    from ncsnx.errors import Hint, NcsnxError

    open_packed(data, folder)
    packed = PackedFolder.open(own_path(data.path, folder))
    if damaged := packed.damaged(work):
        raise NcsnxError(
            f"{packed.path}: found damage in {' and '.join(damaged)}",
            Hint("copy the folder again, or pack the images again"),
        )
    return counted(packed.record.count, "packed image")


def _picture_files(found: "Experiment | Path", folder: Path) -> "ImageFiles | None":
    """The picture files, None for other data."""
    from ncsnx.config.data_sets import Images
    from ncsnx.data.places import own_path
    from ncsnx.data.readers.from_path import draft_of_pictures, holds_pictures
    from ncsnx.data.readers.own_images import picture_files

    if isinstance(found, Path):
        return picture_files(draft_of_pictures(found), found) if holds_pictures(found) else None
    data = found.data
    return picture_files(data, own_path(data.root, folder, field="root")) if isinstance(data, Images) else None


def _check_pictures(files: "ImageFiles", work: "Work") -> str:
    from ncsnx.data.scan import scan_of, sound_files

    sound_files(files, scan_of(files, work, refresh=True), "refuse", work)
    return counted(len(files), "picture")


def _check_by_reading(what: _Meant, workers: int | None, work: "Work") -> str:
    from ncsnx.data.read_ahead import read_all

    splits = _opened(what, work)
    count = len(splits.train) + len(splits.held_out)
    with work.progress("reading", total=count, unit="images") as advance:
        for split in (splits.train, splits.held_out):
            for images in read_all(split, _workers(workers, splits)):
                work.check_stop()
                advance(len(images.pixels))
    return counted(count, "image")


def _listed(names: list[str], separator: str = "; ") -> str:
    more = [f"… and {len(names) - _MOST_NAMED:,} more"] if len(names) > _MOST_NAMED else []
    return separator.join([*names[:_MOST_NAMED], *more])


def _own_files(what: _Meant) -> "ImageFiles | None":
    """A person's own picture files, None for other data."""
    from ncsnx.config.data_sets import Images
    from ncsnx.data.places import own_path
    from ncsnx.data.readers.own_images import picture_files

    if not isinstance(what.data, Images):
        return None
    return picture_files(what.data, own_path(what.data.root, what.folder, field="root"))


def _range_in_words(what: _Meant, summary: "Summary") -> str:
    from ncsnx.data.transforms import window_of

    low, high = summary.value_range
    if what.data.is_bounded:
        return f"{low:g} is black, {high:g} white"
    return f"unbounded, with scale {high:g}; pictures show {window_of(what.data)}"


def _facts(
    what: _Meant, summary: "Summary", files: "ImageFiles | None", scan: "Scan | None", sheet: Path
) -> dict[str, Any]:
    from ncsnx.config.converter import unstructure
    from ncsnx.data.readers.own_images import unread_files

    facts = None
    if files is not None and scan is not None:
        facts = {"modes": scan.modes, "grey": scan.grey, "smallest": scan.smallest, "largest": scan.largest}
        facts |= {"broken": len(scan.broken), "not_read": unread_files(files)}
    return {
        "name": what.name,
        "data": unstructure(what.data),
        **attrs.asdict(summary),
        "files": facts,
        "contact_sheet": str(sheet),
    }


def _show(
    messages: "Messages", what: _Meant, summary: "Summary", files: "ImageFiles | None", scan: "Scan | None"
) -> None:
    from ncsnx.console.tables import Column, table
    from ncsnx.data.readers.own_images import unread_files, unread_in_words
    from ncsnx.quantities import number, product

    rows = {
        "training images": f"{summary.train:,}",
        "held out": f"{summary.held_out:,}",
        "labels": _listed([f"{label}: {count:,}" for label, count in summary.labels.items()], ", ") or "none",
        "shape": product(summary.shape),
        "values": f"{summary.dtype} from {summary.least:g} to {summary.most:g}; {_range_in_words(what, summary)}",
        "mean": "  ".join(map(number, summary.mean)),
        "standard deviation": "  ".join(map(number, summary.standard_deviation)),
        "size in memory": byte_size(summary.pixel_bytes),
        "fingerprint": summary.fingerprint,
    }
    if files is not None and scan is not None:
        modes = ", ".join(f"{count:,} {mode}" for mode, count in scan.modes.items())
        sizes = [f"{size[0]}×{size[1]}" for size in (scan.smallest, scan.largest) if size is not None]
        rows["files"] = f"{modes}; from {' to '.join(sizes)} pixels; {scan.grey:,} grey"
        if unread := unread_in_words(unread_files(files), scan):
            rows["not read"] = unread
    table(messages, [Column("data"), Column(what.name)], [list(row) for row in rows.items()])
