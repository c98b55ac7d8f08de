"""`ncsnx data`: packs, checks, shows, downloads and builds data sets."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import a_count
from ncsnx.cli.command_registry import group
from ncsnx.cli.parsing import data_sources as sources
from ncsnx.cli.path_parameters import a_folder, a_name_or_path, a_path
from ncsnx.cli.session import ANEW, session, work_of
from ncsnx.errors import UsageError
from ncsnx.quantities import byte_size, counted

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data, Packed
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.data import Splits
    from ncsnx.data.packed.packed_file import PackedFile
    from ncsnx.data.pictures.image_files import ImageFiles
    from ncsnx.data.pictures.scan import Scan
    from ncsnx.data.pictures.unread import Unread
    from ncsnx.data.readers.from_path import Reading
    from ncsnx.data.summary import Summary
    from ncsnx.work import Work

data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at data sets, pack, check and get them.")
group("data", data_app, place=170)

Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", parser=a_count(0, 256), help="Processes that decode. [one a processor]"),
]
_WORTH_WORKERS = 256
"""Fewer images are decoded in the time that processes need to start."""
_MOST_NAMED = 20


@data_app.command("pack")
def pack_command(
    source: sources.SourceArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", parser=a_path, help="The file to write.")],
    changes: sources.Changes = None,
    size: sources.Size = None,
    channels: sources.Channels = None,
    background: sources.Background = None,
    held_out: sources.HeldOut = None,
    held_out_folder: sources.HeldOutFolder = None,
    on_error: sources.OnError = None,
    random_crop_from: sources.RandomCropFrom = None,
    array: sources.ArrayName = None,
    workers: Workers = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another file.")] = False,
    data: options.DataFolder = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Decode every image once, into one file that training reads without decoding.

    An interrupted packing resumes when the command is repeated. The split into training and held-out images is kept in
    the file.
    """
    with session(ANEW, verbose=verbose, quiet=quiet) as messages:
        if out.is_dir():
            raise UsageError(f"--out {out} is a folder: name the file to write, such as {out / 'images.pack'}")

        from ncsnx.data import data_folder
        from ncsnx.data.packed.packing import pack, settings_of
        from ncsnx.data.readers.from_path import Reading
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
            settings = settings_of(what.data)
            count = _workers(workers, splits)
            packed = pack(splits, out, settings=settings, work=work, workers=count, overwrite=overwrite)
        if json:
            messages.json(_packed_facts(packed))
        _say_how_to_train(messages, packed, what.data)


@data_app.command("check")
def check_command(
    source: sources.SourceArgument,
    changes: sources.Changes = None,
    array: sources.ArrayName = None,
    workers: Workers = None,
    data: options.DataFolder = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Read everything once: a packed file is compared with its checksums, pictures are decoded; exit 1 for damage."""
    with session(ANEW, verbose=verbose, quiet=quiet) as messages:
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
        messages.info(f"{source}: {found}; all is well")


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
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.png", parser=a_path, help="The contact sheet. [NAME-sheet.png]"),
    ] = None,
    n: Annotated[
        int, typer.Option("--n", metavar="N", parser=a_count(1, 1_024), help="Images on the contact sheet.")
    ] = 64,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", parser=a_count(0, 2**32 - 1), help="Which images those are.")
    ] = 0,
    workers: Workers = None,
    data: options.DataFolder = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Show counts, shapes, labels and channel statistics of a data set, and write a contact sheet."""
    with session(ANEW, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.data import data_folder
        from ncsnx.data.readers.from_path import Reading
        from ncsnx.data.summary import contact_sheet, summarize
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
            splits = _opened(what, attrs.evolve(work, info=ignore_message))  # what isn't read is in the table
            summary = summarize(splits, work, _workers(workers, splits))
            scan, unread = _scan(what, work), _unread(what, work)
            sheet = out or Path(f"{what.name}-sheet.png")
            save_png(sheet, contact_sheet(splits.train if len(splits.train) else splits.held_out, n, seed))
        if json:
            messages.json(_facts(what, summary, scan, unread, sheet))
        else:
            _show(messages, what, summary, scan, unread)
        messages.info(f"contact sheet: {sheet}")


@data_app.command("download")
def download_command(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", parser=a_name_or_path, help="An experiment, whose data set is meant.")
    ],
    changes: sources.Changes = None,
    data: options.DataFolder = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Get the data set of an experiment, where it has a stable address; else say what to get and where to put it.

    An interrupted download resumes when the command is repeated.
    """
    with session(
        "files that are whole are kept, and the same command gets the others", verbose=verbose, quiet=quiet
    ) as messages:
        from ncsnx.config.discovery import resolve
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import data_folder
        from ncsnx.data.data_set import download_data
        from ncsnx.stopping import StopRequest

        config = resolve(experiment, changes).experiment.data
        load_plugins("ncsnx.runtime")
        with StopRequest() as stop:
            download_data(config, data_folder(data), work_of(messages, stop))
        messages.info(f"to look at it: ncsnx data show {shlex.join([experiment, *(changes or [])])}")


@data_app.command("build")
def build_command(
    kind: Annotated[str, typer.Argument(metavar="lsun|ffhq", help="Whose form the data set gets.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", parser=a_path, help="A folder or zip of pictures.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="ROOT", parser=a_folder, help="The data set's folder (data.root).")
    ],
    category: Annotated[str | None, typer.Option("--category", metavar="NAME", help="lsun: such as bedroom.")] = None,
    split: Annotated[str, typer.Option("--split", help="lsun: train or val.")] = "train",
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="ffhq: height and width.")] = 256,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Make an LMDB as LSUN or FFHQ has it from pictures."""
    with session(ANEW, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.stopping import StopRequest

        with StopRequest() as stop:
            work = work_of(messages, stop)
            made = _build(kind, source, out, category, split, size, work)
        messages.info(f"built: {made}")


def _build(kind: str, source: Path, out: Path, category: str | None, split: str, size: int, work: "Work") -> Path:
    from ncsnx.config.checks import FieldError
    from ncsnx.config.data_sets import FFHQ, LSUN
    from ncsnx.data.readers.ffhq import build_ffhq_lmdb
    from ncsnx.data.readers.lsun import build_lsun_lmdb

    try:
        if kind == "ffhq":
            return build_ffhq_lmdb(source, out, FFHQ(image_size=size).image_size, work)
        if kind != "lsun":
            raise UsageError(f"expected lsun or ffhq, found {kind!r}")
        if category is None:
            raise UsageError("lsun: say which category it is to be, as in --category bedroom")
        return build_lsun_lmdb(source, out, LSUN(category=category, image_size=size).category, split, work)
    except FieldError as error:
        raise UsageError(f"--{'size' if error.field == 'image_size' else error.field} {error.complaint}") from error


@attrs.frozen
class _Meant:
    """The data set that a command is about."""

    name: str
    """For a person, and for files that are made of it."""
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

    found = sources.meant(source, changes, folder)
    if not isinstance(found, Path):
        sources.refuse_options(source, said)
        return _Meant(found.name, found.data, folder)
    if changes:
        raise UsageError(f"{source} is not an experiment: {changes[0]} cannot change it; give options, such as --size")
    if must_say_size and holds_pictures(found) and said.image_size is None:
        raise UsageError(f"{source}: say how large the images are to be, as in --size 64")
    name = found.stem if found.is_file() else found.resolve().name
    return _Meant(name, sources.own(found, said, work), folder)


def _opened(what: _Meant, work: "Work") -> "Splits":
    from ncsnx.config.variants import load_plugins
    from ncsnx.data import open_data

    load_plugins("ncsnx.runtime")
    return open_data(what.data, what.folder, work)


def _workers(given: int | None, splits: "Splits") -> int:
    from ncsnx.data.read_ahead import processors

    if given is not None:
        return given
    is_worth_it = len(splits.train) + len(splits.held_out) >= _WORTH_WORKERS
    return processors() if is_worth_it and processors() > 1 else 0


def _packed_facts(packed: "PackedFile") -> dict[str, Any]:
    header = packed.header
    return {
        "path": str(packed.path),
        "fingerprint": packed.fingerprint,
        "train": header.train,
        "held_out": header.count - header.train,
        "channels": header.channels,
        "size": header.size,
        "bytes": packed.layout.end,
    }


def _say_how_to_train(messages: "Messages", packed: "PackedFile", data: "Data") -> None:
    header = packed.header
    messages.info(
        f"{packed.path}: {counted(header.train, 'image')} to train on and {header.count - header.train:,} held out, of "
        f"{header.channels}×{header.size}×{header.size}, {byte_size(packed.layout.end)}"
    )
    messages.info(f"to train from it: ncsnx train EXPERIMENT {shlex.join(_overrides(packed, data))}")


def _overrides(packed: "PackedFile", data: "Data") -> list[str]:
    """What makes an experiment read the packed file, and treat its pixels as it did those of the source."""
    from ncsnx.config.data_sets import Data

    fields = {"path": packed.path, "image_size": data.image_size}
    if data.stored_size != data.image_size:
        fields["random_crop"] = data.stored_size
    if packed.header.channels != 3:
        fields["channels"] = packed.header.channels
    for field in attrs.fields(Data):
        value = getattr(data, field.name)
        if value != field.default:
            fields[field.name] = str(value).lower()
    return ["data=packed", *(f"data.{name}={value}" for name, value in fields.items())]


def _check_packed(data: "Packed", folder: Path, work: "Work") -> str:
    from ncsnx.data.packed.packed_file import PackedFile, damage
    from ncsnx.data.places import own_path
    from ncsnx.data.readers.packed_images import open_packed
    from ncsnx.errors import NcsnxError

    open_packed(data, folder)
    file = PackedFile.open(own_path(data.path, folder))
    found = damage(file, work)
    what = [f"images {images.start:,} to {images.stop - 1:,}" for images in found.images]
    if found.padding:
        what.append("the gaps between its parts")
    if what:
        raise NcsnxError(
            f"{file.path}: {len(found.images):,} of {file.header.chunks:,} chunks are damaged (counted from 0, the "
            f"training images first): {_listed(what)}; get the file again, or pack the images again"
        )
    return f"{counted(file.header.count, 'packed image')}, chunks: {file.header.chunks:,}"


def _picture_files(found: "Experiment | Path", folder: Path) -> "ImageFiles | None":
    """The pictures, where that is what was found."""
    from ncsnx.config.data_sets import Images
    from ncsnx.data.places import own_path
    from ncsnx.data.readers.from_path import draft_of_pictures, holds_pictures
    from ncsnx.data.readers.own_images import picture_files

    if isinstance(found, Path):
        return picture_files(draft_of_pictures(found), found) if holds_pictures(found) else None
    data = found.data
    return picture_files(data, own_path(data.root, folder, field="root")) if isinstance(data, Images) else None


def _check_pictures(files: "ImageFiles", work: "Work") -> str:
    from ncsnx.data.pictures.scan import scan_of, sound_files

    sound_files(files, scan_of(files, work, refresh=True), "refuse", work)
    return counted(len(files), "picture")


def _check_by_reading(what: _Meant, workers: int | None, work: "Work") -> str:
    from ncsnx.data.summary import read_all

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


def _scan(what: _Meant, work: "Work") -> "Scan | None":
    """What is known of the files of a person's own pictures."""
    from ncsnx.config.data_sets import Images
    from ncsnx.data.pictures.scan import scan_of
    from ncsnx.data.places import own_path
    from ncsnx.data.readers.own_images import picture_files

    if not isinstance(what.data, Images):
        return None
    return scan_of(picture_files(what.data, own_path(what.data.root, what.folder, field="root")), work)


def _unread(what: _Meant, work: "Work") -> "list[Unread]":
    """What lies beside the pictures of a data set, or in them, and isn't read."""
    from ncsnx.config.data_sets import Images
    from ncsnx.data.readers.own_images import unread_by

    return unread_by(what.data, what.folder, work) if isinstance(what.data, Images) else []


def _facts(
    what: _Meant, summary: "Summary", scan: "Scan | None", unread: "list[Unread]", sheet: Path
) -> dict[str, Any]:
    from ncsnx.config.codec import unstructure

    files = None
    if scan is not None:
        files = {"modes": scan.modes, "grey": scan.grey, "smallest": scan.smallest, "largest": scan.largest}
        files["broken"] = len(scan.broken)
        files["not_read"] = [attrs.asdict(kind) for kind in unread]
    return {
        "name": what.name,
        "data": unstructure(what.data),
        **attrs.asdict(summary),
        "files": files,
        "contact_sheet": str(sheet),
    }


def _show(messages: "Messages", what: _Meant, summary: "Summary", scan: "Scan | None", unread: "list[Unread]") -> None:
    from ncsnx.console.tables import Column, table
    from ncsnx.quantities import number

    low, high = summary.value_range
    rows = {
        "training images": f"{summary.train:,}",
        "held out": f"{summary.held_out:,}",
        "labels": _listed([f"{label}: {count:,}" for label, count in summary.labels.items()], ", ") or "none",
        "shape": "×".join(map(str, summary.shape)),
        "values": f"{summary.dtype} from {summary.least:g} to {summary.most:g}; {low:g} is black, {high:g} white",
        "mean": "  ".join(map(number, summary.mean)),
        "standard deviation": "  ".join(map(number, summary.standard_deviation)),
        "size in memory": byte_size(summary.pixel_bytes),
        "fingerprint": summary.fingerprint,
    }
    if scan is not None:
        modes = ", ".join(f"{count:,} {mode}" for mode, count in scan.modes.items())
        sizes = [f"{size[0]}×{size[1]}" for size in (scan.smallest, scan.largest) if size is not None]
        rows["files"] = f"{modes}; from {' to '.join(sizes)} pixels; {scan.grey:,} without colours"
    listed = [list(row) for row in rows.items()]
    listed += [["" if number else "not read", str(kind)] for number, kind in enumerate(unread)]
    table(messages, [Column("data"), Column(what.name)], listed)
