"""Sends a run to its trackers: configuration, losses, grids of samples, scores.

The files of the run are read again and again, and what is new is sent. The run notes how far each tracker has been
sent, so a resumed run sends no step twice. A process that is killed may double the rows of its last second.
"""

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import attrs
from filelock import FileLock, Timeout

from ncsnx.config.codec import digest, flatten
from ncsnx.config.converter import unstructure
from ncsnx.config.foreign import error_in_words
from ncsnx.errors import NcsnxError
from ncsnx.runs.exported import portable
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import STEPS, Entry, Ledger, Protocol, Series, lines, value
from ncsnx.runs.metrics_log import series_of
from ncsnx.runs.names import step_of
from ncsnx.runs.result_records import TrackerNotes
from ncsnx.storage import atomic
from ncsnx.storage.documents import read_document, write_document
from ncsnx.storage.json_lines import RecordFollower
from ncsnx.tracking.choosing import known_tracker
from ncsnx.tracking.tracker import Scalar, TrackedRun

GRIDS = "samples"
"""Series of the grids of samples."""
REST_LIMIT_S = 30.0
"""Seconds that trackers have for the rest after training."""
_STOP_LIMIT_S = 5.0
"""The same after a stop, when the process must end soon."""
_PERIOD_S = 2.0
_NOTES_PERIOD_S = 1.0
_LONGEST_TEXT = 500
"""Characters of a value of the configuration."""


class TrackerRecord:
    """A run's open record in one tracker."""

    def __init__(self, run: Run, tag: str) -> None:
        """Opens the record, or begins it. Raises NcsnxError for damaged notes, and whatever the tracker raises."""
        self._run, self._path = run, run.trackers / f"{tag}.json"
        try:
            self._notes = read_document(self._path, TrackerNotes)
        except FileNotFoundError:
            self._notes = TrackerNotes(name=run.name, record=secrets.token_hex(8))
            write_document(self._path, self._notes)
        self._rows, self._ledger_bytes = RecordFollower(run.metrics_path), 0
        self._noted_s = time.monotonic()
        config = {path: _scalar(value) for path, value in flatten(unstructure(portable(run.experiment()))) if path}
        for series in Ledger.read(run).series("fid", "loss", "likelihood"):
            config[_name(series)] = f"{series.protocol.metric}: {series.without_folders().caption}"
        self._tracker = known_tracker(tag, "track").open(
            TrackedRun(name=self._notes.name, record=self._notes.record, config=config)
        )

    def send(self) -> None:
        """Sends everything new. Raises NcsnxError for damaged files, and whatever the tracker raises."""
        before = self._notes
        for record in self._rows.new_records():
            if type(step := record.get("step")) is int:
                numbers = series_of(record).items()
                new = {name: one for name, one in numbers if math.isfinite(one) and self._is_new(name, step)}
                if new:
                    self._tracker.numbers(step, new)
                    self._note(dict.fromkeys(new, step))
        for file in sorted(self._run.snapshots.glob("*.png")):
            step = step_of(file.stem)
            if step is not None and self._is_new(GRIDS, step):
                self._tracker.image(step, GRIDS, file)
                self._note({GRIDS: step})
        with suppress(FileNotFoundError):
            if (size := self._run.ledger.stat().st_size) != self._ledger_bytes:
                self._ledger_bytes = size
                self._send_measurements()
        if self._notes != before:
            write_document(self._path, self._notes)

    def _send_measurements(self) -> None:
        """Sends the new entries of the ledger; `ncsnx doctor` names those that are damaged."""
        sent = set(self._notes.measured)
        found = [one for one in lines(self._run) if not isinstance(one, NcsnxError)]
        protocols = {one.digest: one for one in found if isinstance(one, Protocol)}
        for entry in (one for one in found if isinstance(one, Entry) and one.protocol in protocols):
            if (mark := digest(unstructure(entry))[:12]) in sent:
                continue
            sent.add(mark)
            series = Series(run=self._run, protocol=protocols[entry.protocol], subject=entry.subject)
            measured = {f"{_name(series)}/{key}": value(entry.values, key) for key in entry.values}
            new = {key: one for key, one in measured.items() if one is not None}
            if new and series.protocol.over == STEPS:  # numbers of comparisons belong to samplers, not to steps
                self._tracker.numbers(entry.step, new)
        self._notes = attrs.evolve(self._notes, measured=tuple(sorted(sent)))

    def close(self) -> str:
        """Closes the record; returns the command or address that shows it."""
        self._tracker.close()
        return self._tracker.hint

    def _is_new(self, series: str, step: int) -> bool:
        return step > self._notes.sent.get(series, -1)

    def _note(self, steps: dict[str, int]) -> None:
        self._notes = attrs.evolve(self._notes, sent=self._notes.sent | steps)
        if time.monotonic() > self._noted_s + _NOTES_PERIOD_S:
            self._noted_s = time.monotonic()
            write_document(self._path, self._notes)


def _name(series: Series) -> str:
    """Name of a series of measurements: fid/n1000-…."""
    return f"{series.protocol.measure}/{series.folder.name}"


def send_run(run: Run, tag: str) -> str:
    """Sends a tracker what its record of the run lacks; returns where to see it.

    Raises NcsnxError, also where another process is sending, and whatever the tracker raises.
    """
    with _lock(run, tag):
        record = TrackerRecord(run, tag)
        record.send()
        return record.close()


class Sender:
    """A thread that sends a run to one tracker until it is ended. A failure is one warning."""

    def __init__(self, run: Run, tag: str, warn: Callable[[str], None]) -> None:
        self.tag, self.hint = tag, ""
        self._run, self._warn = run, warn
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name=f"tracker {tag}", daemon=True)
        self._thread.start()

    def end(self, limit_s: Callable[[], float]) -> None:
        """Waits for the rest. limit_s: how long at most; asked again and again, since a stop shortens it."""
        self._over.set()
        begun_s = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - begun_s < limit_s():
            self._thread.join(0.05)
        if self._thread.is_alive():
            self._fail(f"it was not done {time.monotonic() - begun_s:.0f} s after training")

    def _send(self) -> None:
        try:
            with _lock(self._run, self.tag):
                record = TrackerRecord(self._run, self.tag)
                while not self._over.wait(_PERIOD_S):
                    record.send()
                record.send()
                self.hint = record.close()
        except NcsnxError as error:
            self._fail(str(error))
        except BaseException as error:  # a package may raise anything, and the training matters more
            self._fail(error_in_words(error))

    def _fail(self, reason: str) -> None:
        rest = f"ncsnx track {self._run.typed} --to {self.tag}"
        self._warn(f"{self.tag} does not have everything: {reason}; the run does, and this sends the rest: {rest}")


@contextmanager
def tracked(
    run: Run,
    tags: tuple[str, ...],
    warn: Callable[[str], None],
    note: Callable[[str], None],
    stopping: Callable[[], bool],
) -> Iterator[None]:
    """Within the block the run is sent to trackers. warn, note: show a line. stopping: whether a stop was requested."""
    senders = [Sender(run, tag, warn) for tag in tags]
    try:
        yield
    finally:
        for sender in senders:
            sender.end(lambda: _STOP_LIMIT_S if stopping() else REST_LIMIT_S)
            if sender.hint:
                note(f"{sender.tag}: {sender.hint}")


@contextmanager
def _lock(run: Run, tag: str) -> Iterator[None]:
    """Holds the lock of the run's record in a tracker. Raises NcsnxError if another process holds it."""
    path = run.trackers / f".{tag}.lock"
    with atomic.reporting(path, 0):
        try:
            lock = FileLock(path).acquire(timeout=0)
        except Timeout:
            raise NcsnxError(f"another process is sending {run.name} to {tag}") from None
    with lock:
        yield


def _scalar(value: object) -> Scalar:
    """A value of the configuration as trackers take it: lists as text, and text cut to a length that all accept."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
