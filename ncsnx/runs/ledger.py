"""The ledger of a run: every measurement, what was measured, how, and the numbers. Reading it needs no torch.

    measurements.jsonl       one JSON line per record; lines are appended and never changed
        {"measure": "fid", "facts": {…}, …}                      a protocol: how, with names and columns
        {"protocol": "1a2b…", "subject": {…}, "values": {…}, …}  an entry: what, and its numbers
    fid/n1000-classifier-seed0-1a2b3c4d/  scores.csv  scores.png  scores.svg  features/   of entries; expendable

A protocol says what must agree for numbers to be compared; a subject is what differs. Numbers of different protocols
are never ranked together: all queries go by `Series`, which has one. A later entry of a subject adds to its numbers.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import attrs
from filelock import FileLock

from ncsnx.config import checks
from ncsnx.config.codec import canonical, digest
from ncsnx.config.converter import structure
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.config.overrides import as_words
from ncsnx.config.pretrained import Declared
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import OMITTED, VERSION
from ncsnx.errors import AdvisedError, Hint, NcsnxError, quoted, shortened
from ncsnx.quantities import counted, number, percent, with_error
from ncsnx.runs.manifest import HasCheckpoints, holds
from ncsnx.storage import atomic
from ncsnx.storage.documents import append_document, document, document_of
from ncsnx.storage.json_lines import complete_lines, record_in

FEATURES = "features"
"""Folder of the features behind the numbers of a series."""
MOST_FEATURES_BYTES = 2 * 2**30
"""Limit for the features that a run keeps: Inception features of some 250,000 images."""
_LEAST, _MOST = 1e-30, 1e30
"""Limits of the absolute values of numbers other than 0; a number outside isn't from ncsnx."""
STEPS, SAMPLERS = ("step", "weights_sha256", "members"), ("sampler", "seed")
"""Fields of subjects that differ in a series: over checkpoints, and over samplers of one."""
_OVER: dict[str, tuple[str, ...]] = {"compare": SAMPLERS, "neighbors": ()}
_KINDS: dict[str, type] = {"metrics": dict, "levels": list, "spaces": dict}
"""Values of entries that aren't plain numbers."""
_FIX_LINE = "fix or remove that line"
_BEGIN = re.compile(rb'\{"schema_version": 1, "(measure|protocol)": "(\w+)"')
"""The begin of lines as ncsnx writes them, by which lines of other measures are passed over unread."""

T = TypeVar("T")
Row = dict[str, Any]
"""Numbers by key; 'score', lower is better, ranks subjects."""


def value(row: Mapping[Any, Any], key: str | int) -> float | None:
    """A number in a row; None if it wasn't measured or isn't a valid number."""
    item = row.get(key)
    if isinstance(item, bool) or not isinstance(item, int | float):
        return None
    # statistics and plot axes can't handle numbers near the limits of floats
    return float(item) if item == 0 or _LEAST <= abs(item) <= _MOST else None


@attrs.frozen
class Quantity:
    """A number of a row, and a column of tables."""

    key: str
    """Name in rows, JSON and CSV."""
    title: str = attrs.field(default=attrs.Factory(lambda self: self.key, takes_self=True))
    """Name in tables and plots."""
    of_inception: str | None = attrs.field(default=None, metadata=OMITTED)
    """Name with Inception's features, such as 'KID', if the name depends on the features."""
    error: str | None = attrs.field(default=None, metadata=OMITTED)
    """Key of the number behind ±."""
    plus_minus: str = attrs.field(default="standard error", metadata=OMITTED)
    """Meaning of the number behind ±."""
    better: Literal["lower", "higher"] = attrs.field(default="lower", metadata=OMITTED)
    decimals: int | None = attrs.field(default=None, metadata=OMITTED)
    """Number of decimals shown; None to follow the error, or use four significant digits."""
    perfect: float | None = attrs.field(default=None, metadata=OMITTED)
    """Expected value for a perfect model; None if it isn't known."""
    is_share: bool = attrs.field(default=False, metadata=OMITTED)
    """Whether it is shown as a percentage."""
    place: int | None = attrs.field(default=None, metadata=OMITTED)
    """Index of the number, if the value of the key is a list."""
    metric: str = attrs.field(default="", metadata=OMITTED)
    """Tag of the metric that gives it, if any."""
    version: int = attrs.field(default=1, metadata=OMITTED)
    """Version of the metric: a number of another one isn't shown."""
    on_request: bool = attrs.field(default=False, metadata=OMITTED)
    """Whether tables show it on request only."""
    identifier: str | None = attrs.field(default=None, metadata=OMITTED)
    """Identifier on the Hugging Face Hub, such as fid; None if it is no score there."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The key, and the key of the number behind ±."""
        return (self.key,) if self.error is None else (self.key, self.error)

    def value_in(self, row: Mapping[str, Any]) -> float | None:
        """The number in a row; None if there is none, or one of another version."""
        if self.metric and row.get("metrics", {}).get(self.metric) != self.version:
            return None
        if self.place is None:
            return value(row, self.key)
        return value(dict(enumerate(row.get(self.key, ()))), self.place)

    def error_in(self, row: Mapping[str, Any]) -> float | None:
        """The number behind ± in a row; None if there is none."""
        return None if self.error is None else value(row, self.error)

    def shown(self, row: Mapping[str, Any]) -> str:
        """The number in a row with its error, as shown in tables; '' if there is none."""
        if (measured := self.value_in(row)) is None:
            return ""
        if self.is_share:
            return percent(measured)
        return with_error(measured, self.error_in(row)) if self.decimals is None else f"{measured:,.{self.decimals}f}"


@attrs.frozen(kw_only=True)
class Subject:
    """Measured weights, and the sampler and seed of the images that they drew, if any."""

    step: int = attrs.field(validator=checks.between(0, MOST_STEPS))
    weights_sha256: str
    """sha256 of the weights file; for an ensemble, a digest of the members' sha256."""
    weights: str
    """Which weights of the checkpoint: 'ema' or 'raw'."""
    precision: str
    identity: str
    """Identity of the experiment."""
    members: tuple[int, ...] = attrs.field(default=(), metadata=OMITTED)
    """Steps whose scores were averaged, ascending; none without an ensemble."""
    sampler: dict[str, Any] | None = attrs.field(default=None, metadata=OMITTED, hash=False)
    """The sampler as JSON, readable without its package; None if nothing was drawn."""
    seed: int | None = attrs.field(default=None, metadata=OMITTED)
    """Seed of the images."""

    def _values(self) -> dict[str, Any]:
        return attrs.asdict(self, recurse=False, filter=lambda field, value: value != field.default)

    @property
    def digest(self) -> str:
        """Unique to the subject."""
        return digest(self._values())

    @property
    def known_sampler(self) -> Sampler | None:
        """The sampler; None if nothing was drawn, or if its package isn't installed."""
        try:
            return structure(self.sampler, Sampler)
        except NcsnxError:
            return None

    @property
    def sampler_in_words(self) -> str:
        """The sampler as it is typed; its tag if its package isn't installed."""
        sampler = self.known_sampler
        return f"sampler={(self.sampler or {}).get('type', 'unknown')}" if sampler is None else as_words(sampler)

    def fixed(self, over: Sequence[str]) -> dict[str, Any]:
        """The fields that agree in a series over other ones."""
        values = {"ensemble": max(1, len(self.members)), **self._values()}
        values.pop("members", None)
        return {key: found for key, found in values.items() if key not in over}


@document("a protocol", advice=_FIX_LINE)
@attrs.frozen(kw_only=True)
class MeasurementProtocol:
    """How subjects are measured: all that must agree for their numbers to be compared."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    measure: str
    """The command: fid, compare, loss, likelihood or neighbors."""
    facts: dict[str, Any]
    """The facts that the numbers depend on, but for their subjects."""
    metric: str = ""
    """Name of the score."""
    label: str = ""
    """Beginning of names of folders."""
    words: dict[str, str] = attrs.field(factory=dict)
    """The facts in words."""
    columns: tuple[Quantity, ...] = ()
    """The score first."""
    perfect_model: dict[str, Any] | None = attrs.field(default=None, metadata=OMITTED)
    """Expected score of real images in place of sampled ones, as JSON; None if unknown."""

    @property
    def digest(self) -> str:
        """Digest of measure and facts, in hexadecimal."""
        return digest({"measure": self.measure, **self.facts})[:16]

    def score_in(self, row: Row) -> float | None:
        """The score in a row; None if it diverged, or is of another version of the metric."""
        return self.columns[0].value_in(row) if self.columns else value(row, "score")

    @property
    def over(self) -> tuple[str, ...]:
        """The fields of subjects that differ in a series."""
        return _OVER.get(self.measure, STEPS)

    @property
    def caption(self) -> str:
        """The facts in words, in one line."""
        return "; ".join(f"{name}: {text}" if name else text for name, text in self.words.items())


@document("a measurement", advice=_FIX_LINE)
@attrs.frozen(kw_only=True)
class Entry:
    """The numbers of a subject under a protocol."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    protocol: str
    """Digest of the protocol."""
    subject: Subject
    values: Row
    made: dict[str, Any] = attrs.field(factory=dict, metadata=OMITTED)
    """How it came about: begin, end, command, runtime, versions."""

    def __attrs_post_init__(self) -> None:
        if self.values.get("score") is not None and value(self.values, "score") is None:
            found = quoted(self.values["score"])
            raise checks.FieldError("values.score", f"must be 0 or between {_LEAST:g} and {_MOST:g}, not {found}")
        for key, kind in _KINDS.items():
            if not isinstance(self.values.get(key, kind()), kind):
                found = quoted(self.values[key])
                raise checks.FieldError(f"values.{key}", f"must be a {kind.__name__}, not {found}")

    @property
    def step(self) -> int:
        """Step of the checkpoint."""
        return self.subject.step

    @property
    def score(self) -> float | None:
        """The number that is lowest for the best subject; None if it diverged."""
        return value(self.values, "score")

    @property
    def finished(self) -> str:
        """Time of the numbers: UTC, ISO 8601."""
        return str(self.made.get("finished", ""))


class Measured(HasCheckpoints, Protocol):
    """A run, to this module, which the module of runs imports."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def cli_name(self) -> str: ...
    @property
    def ledger_path(self) -> Path: ...
    def declared(self) -> Declared: ...


@attrs.frozen(kw_only=True)
class Series:
    """Numbers that can be compared: one protocol, and subjects that differ in `protocol.over` only."""

    run: Measured
    protocol: MeasurementProtocol
    subject: Subject
    """One of them."""
    entries: tuple[Entry, ...] = ()
    """The entries by step; of a checkpoint whose weights were replaced, that of the weights that are there, else the
    newest."""

    @property
    def fixed(self) -> dict[str, Any]:
        """The fields of the subjects that agree in all of them."""
        return self.subject.fixed(self.protocol.over)

    @property
    def facts(self) -> dict[str, Any]:
        """The whole protocol as JSON: that of the measurement, and what all subjects have in common."""
        return {"measure": self.protocol.measure, **self.protocol.facts, **self.fixed}

    @property
    def folder(self) -> Path:
        """Folder of its table and plots."""
        fixed = self.fixed
        parts = [f"step-{fixed['step']:08d}"] if "step" in fixed else []
        parts += [self.protocol.label]
        parts += [f"seed{fixed['seed']}"] if fixed.get("seed") is not None else []
        parts += [f"ensemble{fixed['ensemble']}"] if fixed["ensemble"] > 1 else []
        return self.run.path / self.protocol.measure / "-".join([*parts, digest(self.facts)[:8]])

    @property
    def words(self) -> tuple[str, ...]:
        """Common facts of all subjects, in words."""
        fixed, subject = self.fixed, self.subject
        weights = {"ema": "EMA weights", "raw": "raw weights"}.get(subject.weights, subject.weights)
        parts = [f"step {fixed['step']:,}"] if "step" in fixed else []
        parts += [weights if subject.precision == "fp32" else f"{weights} in {subject.precision}"]
        parts += [f"scores of {counted(fixed['ensemble'], 'checkpoint')} averaged"] if fixed["ensemble"] > 1 else []
        parts += [subject.sampler_in_words, *self.evaluations()] if "sampler" in fixed else []
        parts += [f"seed {fixed['seed']}"] if "seed" in fixed else []
        return tuple(parts)

    @property
    def caption(self) -> str:
        """The whole protocol in words."""
        return f"{', '.join(self.words)}; {self.protocol.caption}"

    def evaluations(self) -> list[str]:
        """Evaluations per image in words; none without entries. Adaptive samplers take another number for each."""
        known = {count for one in self.entries if (count := value(one.values, "evaluations")) is not None}
        if not known:
            return []
        return [f"{f'{min(known):,.0f} to ' if len(known) > 1 else ''}{counted(max(known), 'evaluation')} per image"]

    @property
    def changed(self) -> str:
        """Time of the newest entry."""
        return max(one.finished for one in self.entries)

    @property
    def rows(self) -> list[Row]:
        """The numbers with their steps, for plots."""
        return [{**one.values, "score": self.score_of(one), "step": one.step} for one in self.entries]

    def score_of(self, entry: Entry) -> float | None:
        """The score of an entry; None if it diverged, or is of another version of the metric."""
        return self.protocol.score_in(entry.values)

    def without_folders(self) -> Self:
        """The same with the name of a reference folder in place of its path, which may reveal private names."""
        kind, _, path = self.protocol.words.get("reference", "").partition(" ")
        if kind not in ("folder", "zip"):
            return self
        words = {**self.protocol.words, "reference": f"{kind} {Path(path).name}"}
        return attrs.evolve(self, protocol=attrs.evolve(self.protocol, words=words))


def lowest(rows: Iterable[T], score: Callable[[T], float | None]) -> T | None:
    """The row with the lowest score, the first of equal ones; None without scores."""
    scored = [(found, row) for row in rows if (found := score(row)) is not None]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None


@attrs.define
class Ledger:
    """The measurements of a run, each stored durably when it is added."""

    run: Measured
    protocols: dict[str, MeasurementProtocol] = attrs.field(factory=dict)
    """The newest form of each protocol, by digest."""
    damaged: list[NcsnxError] = attrs.field(factory=list)
    """An error for each line that can't be read, and for each entry whose protocol is missing."""
    _without_protocol: list[NcsnxError] = attrs.field(factory=list)
    _entries: dict[tuple[str, Subject], Entry] = attrs.field(factory=dict)

    @classmethod
    def read(cls, run: Measured, measures: Sequence[str] = ()) -> Self:
        """The ledger of a run; empty if it has none. Raises NcsnxError for a file that can't be read.

        measures: those read, which is faster than all of them.
        """
        ledger = cls(run)
        ledger.reload(measures)
        return ledger

    def reload(self, measures: Sequence[str] = ()) -> None:
        """Reads what other processes have added, too. Raises NcsnxError."""
        self.protocols, self.damaged, self._without_protocol, self._entries = {}, [], [], {}
        for record in lines(self.run, measures):
            self._take(record)
        for name, subject in self._entries:
            if name not in self.protocols and not measures:
                missing = f"{self.run.ledger_path}: the protocol {name} of step {subject.step:,} is missing"
                self._without_protocol.append(AdvisedError(missing, "repeat the command that measured it"))
        self.damaged += self._without_protocol

    def require_sound(self, *measures: str) -> None:
        """Raises NcsnxError that names the first line that can't be read; for what would remove something.

        measures: lines that are surely of other ones don't matter; none: all do.
        """
        read = Ledger.read(self.run, measures).damaged + self._without_protocol if self.damaged and measures else None
        for error in self.damaged if read is None else read:
            raise error

    def warn(self, warning: Callable[[str], object]) -> None:
        """Warns of lines that can't be read."""
        if self.damaged:
            count = counted(len(self.damaged), "measurement")
            warning(f"{count} left out: {self.damaged[0]}")

    def _take(self, record: MeasurementProtocol | Entry | NcsnxError) -> None:
        if isinstance(record, NcsnxError):
            self.damaged.append(record)
            return
        if isinstance(record, MeasurementProtocol):
            self.protocols[record.digest] = record
            return
        key = record.protocol, record.subject
        before = self._entries.pop(key, None)  # so that the newest is last
        self._entries[key] = record if before is None else attrs.evolve(record, values=before.values | record.values)

    def add(self, protocol: MeasurementProtocol, subject: Subject, values: Row, made: Mapping[str, Any]) -> None:
        """Stores numbers, beside those that the subject has. Raises NcsnxError."""
        entry = Entry(protocol=protocol.digest, subject=subject, values=values, made=dict(made))
        is_known = self.protocols.get(protocol.digest) == protocol
        self._append(*([] if is_known else [protocol]), entry)

    def restore(self, protocol: MeasurementProtocol) -> None:
        """Stores a protocol again whose line was lost, so that its entries count. Raises NcsnxError."""
        if protocol.digest not in self.protocols and any(name == protocol.digest for name, _ in self._entries):
            self._append(protocol)
            self.reload()

    def _append(self, *records: MeasurementProtocol | Entry) -> None:
        path = self.run.ledger_path
        with atomic.reporting(path), FileLock(path.with_name(f".{path.name}.lock")):  # several commands may add
            for record in records:
                append_document(path, record)
        for record in records:
            self._take(record)

    def find(self, protocol: MeasurementProtocol, subject: Subject) -> Entry | None:
        """The numbers of a subject; None if it wasn't measured."""
        return self._entries.get((protocol.digest, subject))

    def _known(self, measures: Sequence[str]) -> Iterator[tuple[MeasurementProtocol, Entry]]:
        """The entries of these measures, the newest last; those of unknown protocols are left out."""
        for entry in self._entries.values():
            protocol = self.protocols.get(entry.protocol)
            if protocol is not None and protocol.measure in measures:
                yield protocol, entry

    def singles(self, *measures: str) -> Iterator[Series]:
        """A series for each entry of these measures, the newest last."""
        for protocol, entry in self._known(measures):
            yield Series(run=self.run, protocol=protocol, subject=entry.subject, entries=(entry,))

    def series(self, *measures: str) -> Iterator[Series]:
        """All series of these measures."""
        found: dict[tuple[str, bytes], dict[object, Entry]] = {}
        for protocol, entry in self._known(measures):
            subject = entry.subject
            place = entry.step if protocol.over == STEPS else subject
            ones = found.setdefault((entry.protocol, canonical(subject.fixed(protocol.over))), {})
            if (other := ones.get(place)) is None or not holds(self.run, other.step, other.subject.weights_sha256):
                ones[place] = entry
        for (name, _), ones in found.items():
            first, *_ = entries = tuple(sorted(ones.values(), key=lambda entry: entry.step))
            yield Series(run=self.run, protocol=self.protocols[name], subject=first.subject, entries=entries)

    def series_of(self, protocol: MeasurementProtocol, subject: Subject) -> Series:
        """The series that a subject belongs to, with the entries that it has."""
        wanted = Series(run=self.run, protocol=protocol, subject=subject)
        return next((one for one in self.series(protocol.measure) if one.facts == wanted.facts), wanted)


def lines(run: Measured, measures: Sequence[str] = ()) -> Iterator[MeasurementProtocol | Entry | NcsnxError]:
    """The record in each line of a run's ledger; an error for a line that is damaged, or of a newer version.

    measures: lines of other ones are left out; none for all lines. Raises NcsnxError for a file that can't be read.
    """
    known, entries = set[bytes](), list[tuple[bytes, int, bytes]]()
    for place, line in enumerate(complete_lines(run.ledger_path), start=1):
        if measures and (begin := _BEGIN.match(line)) is not None:  # else a person wrote it
            key, name = begin.groups()
            if key == b"protocol":  # which may stand below
                entries.append((name, place, line))
                continue
            if name.decode() not in measures:
                continue
        record = _record(run, place, line)
        if isinstance(record, MeasurementProtocol):
            known.add(record.digest.encode())
        yield record
    yield from (_record(run, place, line) for name, place, line in entries if name in known)


def _record(run: Measured, place: int, line: bytes) -> MeasurementProtocol | Entry | NcsnxError:
    where = f"{run.ledger_path}, line {place}"
    try:
        values = record_in(line, where)
        return (
            document_of(values, MeasurementProtocol, where) if "facts" in values else document_of(values, Entry, where)
        )
    except NcsnxError as error:
        return error


@attrs.frozen
class Best:
    """The checkpoint with the lowest score, and the series that ranks it."""

    series: Series
    """The series, with the checkpoints alone that still exist."""
    entry: Entry

    @property
    def step(self) -> int:
        """Step of the checkpoint."""
        return self.entry.step

    @property
    def score(self) -> float:
        """The lowest score."""
        return self.entry.score or 0.0

    @property
    def metric(self) -> str:
        """Name of the score."""
        return shortened(self.series.protocol.metric)

    @property
    def images(self) -> int:
        """Images of each checkpoint."""
        return int(self.series.protocol.facts["n"])

    @property
    def protocol(self) -> str:
        """How it was measured, in a few words: metric, images, sampler, and what is unusual of weights and seed."""
        subject, (weights, *_) = self.series.subject, self.series.words
        unusual = [weights] if (subject.weights, subject.precision) != ("ema", "fp32") else []
        unusual += [f"seed {subject.seed}"] if subject.seed else []
        sampler = [str((subject.sampler or {}).get("type", "unknown")), *self.series.evaluations()]
        return ", ".join([self.metric, f"n={self.images}", *sampler, *unusual])

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; the number of scored checkpoints under 'among'."""
        names = ("step", "score", "metric", "images")
        facts = {"weights_sha256": self.entry.subject.weights_sha256, "protocol_digest": self.series.protocol.digest}
        place = {"folder": str(self.series.folder), "among": len(self.series.entries)}
        return {**{name: getattr(self, name) for name in names}, **facts, **place}

    def __str__(self) -> str:
        return (
            f"step {self.step:,}, {self.metric} {number(self.score)} on {counted(self.images, 'image')}, the best of "
            f"{len(self.series.entries)} scored in {self.series.folder}"
        )


def best_checkpoints(ledger: Ledger) -> list[Best]:
    """The best checkpoint of each series of `ncsnx fid`; the last is that of the series with the most checkpoints.

    Of series with equally many, the one with the most images is last, then the newest. Series of ensembles don't count,
    since they don't rank single checkpoints, nor do scores of weights that no longer exist.
    """
    found, exists = list[tuple[tuple[int, int, int, str], Best]](), cache(partial(holds, ledger.run))
    for series in ledger.series("fid"):
        here = [one for one in series.entries if exists(one.step, one.subject.weights_sha256)]
        images = series.protocol.facts.get("n")
        best = lowest(here, series.score_of)
        if not series.subject.members and type(images) is int and best is not None:
            rank = len(here), len(series.entries), images, series.changed
            found.append((rank, Best(attrs.evolve(series, entries=tuple(here)), best)))
    return [best for _, best in sorted(found, key=lambda pair: pair[0])]


def best_checkpoint(ledger: Ledger) -> Best | None:
    """The checkpoint that `best` means, and the series that ranks it; None without scores."""
    return next(reversed(best_checkpoints(ledger)), None)


def require_best(ledger: Ledger) -> Best:
    """The same. Raises NcsnxError without scores."""
    best, run = best_checkpoint(ledger), ledger.run
    if best is None:
        raise NcsnxError(
            f"run {run.name!r} has no best checkpoint: no scores yet (scores of ensembles and of weights that no "
            "longer exist do not count)",
            Hint("score the checkpoints", f"ncsnx fid {run.cli_name}"),
        )
    return best
