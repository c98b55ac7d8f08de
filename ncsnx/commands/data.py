"""`ncsnx data`: packs, checks, shows and downloads data sets."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, command, option
from ncsnx.commands.given_data import READING_PANEL, InNamedData, ReadFully, named_source, own, refuse_reading
from ncsnx.commands.groups import SEEDS, DataChanges, InData, Place, changed_words
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import byte_size, counted, listed, number, product
from ncsnx.results import Column, Lines, Result, Table
from ncsnx.spelling import argument as spelled
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data, Packed
    from ncsnx.config.experiment import Experiment
    from ncsnx.data import Splits
    from ncsnx.data.image_files import ImageFiles
    from ncsnx.data.readers.packed import PackedFolder
    from ncsnx.data.scan import Scan
    from ncsnx.data.summary import Summary
    from ncsnx.space import Space
    from ncsnx.work import Work

_SHEET_PANEL = "Contact sheet"
_WORTH_WORKERS = 256
"""Fewer images are decoded before the processes have started."""


@attrs.frozen
class NamedData:
    """The data set of a command."""

    name: str
    """Name for messages, and for files made from the data."""
    data: "Data"
    folder: Path
    """The data folder."""

    def opened(self, work: "Work") -> "Splits":
        """The images. Raises NcsnxError."""
        from ncsnx.config.variants import load_plugins
        from ncsnx.data import open_data

        load_plugins("ncsnx.runtime")
        return open_data(self.data, self.folder, work)

    def space(self, splits: "Splits", work: "Work") -> "Space":
        """The space of the images."""
        from ncsnx.data.value_statistics import values_space

        return values_space(self.data, splits, self.name, work)

    def picture_files(self) -> "ImageFiles | None":
        """A person's own picture files, None for other data."""
        from ncsnx.config.data_sets import Images
        from ncsnx.data.places import existing_path
        from ncsnx.data.readers.own_images import picture_files

        if not isinstance(self.data, Images):
            return None
        return picture_files(self.data, existing_path(self.data.root, self.folder, field="root"))

    def scales_of_patches(self) -> Sequence[float]:
        """Scales of the pictures that patches are cut from; none where images aren't patches."""
        from ncsnx.config.data_sets import Images

        return self.data.scales if isinstance(self.data, Images) and self.data.patches else ()


@attrs.frozen(slots=False, kw_only=True)
class Opened(InNamedData):
    """A data set that is read."""

    workers: Annotated[int | None, option(Panel.EXECUTION, "N", default="one per processor", between=(0, 256))] = None
    """Processes that decode images."""

    def named(self) -> "Experiment | Path":
        """The experiment, or the file or folder. Raises UsageError."""
        return named_source(self.source, changed_words(self.changes), self.data_folder())

    def data_set(self, work: "Work", *, needs_size: bool = False) -> NamedData:
        """The data set. Raises UsageError, also for pictures without a size where one is needed."""
        from ncsnx.data.readers.from_path import holds_pictures

        found, reading, changes = self.named(), self.reading(), changed_words(self.changes)
        if not isinstance(found, Path):
            refuse_reading(self.source, found.data, reading)
            return NamedData(found.name, found.data, self.data_folder())
        if changes:
            raise UsageError(
                f"{self.source} is not an experiment, so {changes[0]} cannot change it; give options instead, such as "
                f"{parameter('size')}"
            )
        if needs_size and holds_pictures(found) and reading.image_size is None:
            hint = Hint("for example", adds=spelled("size", 64))
            raise UsageError(f"{self.source}: the size of the images is not given", hint)
        name = found.stem if found.is_file() else found.resolve().name
        return NamedData(name, own(found, reading, work), self.data_folder())

    def processes(self, splits: "Splits") -> int:
        """Processes that decode."""
        from ncsnx.data.read_ahead import processors

        if self.workers is not None:
            return self.workers
        is_worth_it = len(splits.train) + len(splits.held_out) >= _WORTH_WORKERS
        return processors() if is_worth_it and processors() > 1 else 0


@command("data pack", panel=Panel.DATA, order=100)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class DataPack(ReadFully, Opened, Command[Lines]):
    """Decode every image once, into a folder for training.

    Training reads it without decoding. The folder keeps the split into training and held-out images.
    """

    random_crop_from: Annotated[values.Size | None, option(READING_PANEL, "PX|H,W", parse=values.size)] = None
    """Keep images of this larger size, which training crops at random."""
    out: Annotated[Place, option(Panel.OUTPUT, "FOLDER", parse=values.path)]
    """The folder to write."""
    overwrite: Annotated[bool, option(Panel.OUTPUT)] = False
    """Replace another packed data set."""

    def carry_out(self, work: "Work") -> Lines:
        with work.interruptible():
            from ncsnx.data.readers.packed import pack, settings_of

            data = self.data_set(work, needs_size=True)
            splits = data.opened(work)
        packed = pack(
            splits,
            Path(self.out),
            settings=settings_of(data.data),
            work=work,
            workers=self.processes(splits),
            overwrite=self.overwrite,
        )
        record = packed.record
        messages = [
            f"{packed.path}: {counted(record.train, 'training image')} and {record.count - record.train:,} held out, "
            f"of {'×'.join(map(str, record.shape))}, {byte_size(packed.nbytes)}",
            f"to train from it:  ncsnx train EXPERIMENT {shlex.join(_overrides(packed, data.data))}",
        ]
        facts = {
            "path": str(packed.path),
            "fingerprint": packed.fingerprint,
            "train": record.train,
            "held_out": record.count - record.train,
            "channels": record.channels,
            "size": record.size,
            "bytes": packed.nbytes,
        }
        return Lines((), facts, messages)


def _overrides(packed: "PackedFolder", data: "Data") -> list[str]:
    """Overrides with which an experiment reads the packed images, and treats its pixels as those of the source."""
    from ncsnx.config.data_sets import Data
    from ncsnx.config.image_sizes import size_as_words

    size, stored = data.shape[1:], data.stored_size
    fields: dict[str, Any] = {"path": packed.path, "image_size": size_as_words(size)}
    if stored != size:
        fields["random_crop"] = size_as_words(stored)
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


@command("data check", panel=Panel.DATA, order=100)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class DataCheck(Opened, Command[Lines]):
    """Read a whole data set and report damage.

    Compares packed images with their checksums, and decodes pictures. Exits with 1 for damage.
    """

    def carry_out(self, work: "Work") -> Lines:
        with work.interruptible():
            from ncsnx.config.data_sets import Packed

            data = self.data_set(work)
            if isinstance(data.data, Packed):
                return self._sound(_check_packed(data.data, data.folder, work), "packed image")
            splits = data.opened(work)
        return self._sound(_check_by_reading(splits, self.processes(splits), work), "image")

    def _sound(self, images: int, noun: str) -> Lines:
        """The result for so many images that were read without damage."""
        message = f"{self.source}: {counted(images, noun)}; no damage found"
        return Lines((), {"source": str(self.source), "read": images}, [message])


def _check_packed(data: "Packed", folder: Path, work: "Work") -> int:
    from ncsnx.data.places import existing_path
    from ncsnx.data.readers.packed import PackedFolder, open_packed

    open_packed(data, folder)
    packed = PackedFolder.open(existing_path(data.path, folder))
    if damaged := packed.damaged(work):
        raise NcsnxError(
            f"{packed.path}: found damage in {' and '.join(damaged)}",
            Hint("copy the folder again, or pack the images again"),
        )
    return packed.record.count


def _check_by_reading(splits: "Splits", processes: int, work: "Work") -> int:
    from ncsnx.data.read_ahead import read_all

    count = len(splits.train) + len(splits.held_out)
    with work.progress("reading", total=count, unit="images") as advance:
        for split in (splits.train, splits.held_out):
            for images in read_all(split, processes):
                work.check_stop()
                advance(len(images.pixels))
    return count


@command("data show", panel=Panel.DATA, order=100)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class DataShow(ReadFully, Opened, Command["DataFacts"]):
    """Show statistics of a data set, and write a contact sheet.

    The statistics are counts, shapes, labels, and the mean and standard deviation of each channel.
    """

    n: Annotated[int, option(_SHEET_PANEL, "N", between=(1, 1_024))] = 64
    """Images on the sheet."""
    seed: Annotated[int, option(_SHEET_PANEL, "SEED", between=SEEDS)] = 0
    """Determines which images those are."""
    out: Annotated[Place | None, option(Panel.OUTPUT, "FILE.png", default="NAME-sheet.png", parse=values.path)] = None
    """The contact sheet."""

    def carry_out(self, work: "Work") -> "DataFacts":
        with work.interruptible():
            from ncsnx.data.scan import scan_of
            from ncsnx.data.summary import contact_sheet, summarize
            from ncsnx.images import save_png
            from ncsnx.work import ignore_message

            out = None if self.out is None else Path(self.out)
            if out is not None and out.suffix.lower() != ".png":
                raise UsageError(f"{parameter('out')} {out}: the contact sheet is a PNG; give a name that ends in .png")
            if out is not None and out.exists():
                raise UsageError(f"{parameter('out')} {out} already exists; name another file")
            data = self.data_set(work)
            splits = data.opened(attrs.evolve(work, info=ignore_message))  # the table lists unread files
            space = data.space(splits, work)
            summary = summarize(splits, space, work, self.processes(splits))
            files = data.picture_files()
            scan = None if files is None else scan_of(files, work)
            sheet = out or Path(f"{data.name}-sheet.png")
            shown = splits.train if len(splits.train) else splits.held_out
            save_png(sheet, contact_sheet(shown, self.n, self.seed, None if space.bounded else space.pictures))
        return DataFacts(data=data, space=space, summary=summary, files=files, scan=scan, sheet=sheet)


@attrs.frozen(kw_only=True, repr=False)
class DataFacts(Result):
    """Statistics of a data set."""

    data: NamedData
    space: "Space"
    summary: "Summary"
    files: "ImageFiles | None"
    scan: "Scan | None"
    sheet: Path
    """The contact sheet."""

    def shown(self) -> Sequence[Table | str]:
        from ncsnx.data.readers.own_images import unread_in_words

        summary, files, scan = self.summary, self.files, self.scan
        rows = {
            "training images": f"{summary.train:,}",
            "held out": f"{summary.held_out:,}",
            "labels": listed([f"{label}: {count:,}" for label, count in summary.labels.items()]) or "none",
            "shape": product(summary.shape),
            "values": f"{summary.dtype} from {summary.least:g} to {summary.most:g}; {self._range_in_words()}",
            "mean": "  ".join(map(number, summary.mean)),
            "standard deviation": "  ".join(map(number, summary.standard_deviation)),
            "size in memory": byte_size(summary.pixel_bytes),
            "fingerprint": summary.fingerprint,
        }
        if files is not None and scan is not None:
            modes = ", ".join(f"{count:,} {mode}" for mode, count in scan.modes.items())
            sizes = [f"{width}×{height}" for width, height, _ in (scan.sizes[0], scan.sizes[-1])]
            rows["files"] = f"{modes}; from {' to '.join(sizes)} pixels; {scan.gray:,} gray"
            if scales := self.data.scales_of_patches():
                rows["patches"] = f"cut from these at scale {' or '.join(f'{scale:g}' for scale in scales)}"
            if unread := unread_in_words(files, scan.further_pages):
                rows["not read"] = unread
        return [Table(columns=[Column("data"), Column(self.data.name)], rows=list(map(list, rows.items())))]

    def _range_in_words(self) -> str:
        if self.space.bounded:
            low, high = self.summary.value_range
            return f"{low:g} is black, {high:g} white"
        return f"unbounded, with scale {self.space.span:g}; pictures show {self.space.pictures}"

    def closing(self) -> Sequence[str]:
        return [f"contact sheet: {self.sheet}"]

    def to_json(self) -> object:
        from ncsnx.config.converter import unstructure
        from ncsnx.data.readers.own_images import unread_files

        facts, scan = None, self.scan
        if self.files is not None and scan is not None:
            facts = {"modes": scan.modes, "gray": scan.gray, "not_read": unread_files(self.files)}
            facts["further_pages"] = scan.further_pages
            facts |= {"broken": len(scan.broken), "smallest": scan.sizes[0][:2], "largest": scan.sizes[-1][:2]}
        data, summary = unstructure(self.data.data), attrs.asdict(self.summary)
        return {"name": self.data.name, "data": data, **summary, "files": facts, "contact_sheet": str(self.sheet)}


@command("data download", panel=Panel.DATA, order=100)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class DataDownload(InData, Command[Lines]):
    """Download the data set of an experiment.

    For a data set that ncsnx can't download, says what to download and where to put it.
    """

    experiment: Annotated[str, argument("EXPERIMENT", parse=values.name_or_path, complete="experiment")] = attrs.field(
        kw_only=False
    )
    """An experiment with that data set."""
    changes: DataChanges = attrs.field(default=(), kw_only=False)
    """Changes to its data set."""

    def carry_out(self, work: "Work") -> Lines:
        with work.interruptible():
            from ncsnx.config.discovery import resolve
            from ncsnx.config.variants import load_plugins
            from ncsnx.data.registry import download_data

            changes = changed_words(self.changes)
            data = resolve(self.experiment, changes).experiment.data
            load_plugins("ncsnx.runtime")
            download_data(data, self.data_folder(), work)
        words = shlex.join([self.experiment, *changes])
        return Lines((), {"experiment": words, "folder": str(self.data_folder())}, [f"next: ncsnx data show {words}"])
