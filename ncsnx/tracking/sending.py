"""Sends a run to its trackers: configuration, losses, grids of samples, scores.

The files of the run are read again and again, and what is new is sent. The run notes how far each tracker is, so a
resumed run continues its record. After a kill, what was on its way may be doubled or missing.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import attrs

from ncsnx.config.codec import digest, flatten
from ncsnx.config.converter import unstructure
from ncsnx.config.user_code import error_in_words
from ncsnx.errors import NcsnxError
from ncsnx.exports.exported import portable
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import STEPS, Entry, Ledger, MeasurementProtocol, Series, lines, value
from ncsnx.runs.metrics_log import MetricsLog, series_of
from ncsnx.runs.names import step_of
from ncsnx.runs.result_records import TrackerNotes
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.storage import atomic
from ncsnx.storage.documents import read_document, write_document
from ncsnx.tracking.tracker import TrackedRun, known_tracker

REST_LIMIT_S = 30.0
"""Seconds that trackers have for the rest after training."""
_STOP_LIMIT_S = 5.0
"""The same after a stop, when the process must end soon."""
_PERIOD_S, _NOTES_PERIOD_S = 2.0, 1.0
_SHARE = 0.01
"""Largest share of the training's time in which the files are read."""


class TrackerRecord:
    """A run's open record in one tracker."""

    def __init__(self, run: Run, tag: str) -> None:
        """Opens the record, or begins it. Raises NcsnxError for damaged notes, and whatever the tracker raises."""
        found = known_tracker(tag)
        self._run, self._path = run, atomic.make_folder(run.trackers) / f"{tag}.json"
        try:
            self._notes = read_document(self._path, TrackerNotes)
        except FileNotFoundError:
            self._notes = TrackerNotes(name=run.name, record=secrets.token_hex(8))
            write_document(self._path, self._notes)
        if (last := self._notes.sent.get("measurements")) is not None:  # once they were numbered
            numbered = {key: step for key, step, _ in [*_measurements(run)][: last + 1]}
            others = {key: place for key, place in self._notes.sent.items() if key != "measurements"}
            self._notes = attrs.evolve(self._notes, sent=others | numbered)
        config = dict(flatten(unstructure(portable(run.experiment()))))
        for series in Ledger.read(run).series("fid", "loss", "likelihood"):
            config[_name(series)] = f"{series.protocol.metric}: {series.without_folders().caption}"
        self._tracker = found.open(TrackedRun(name=self._notes.name, record=self._notes.record, config=config))

    def send(self) -> float:
        """Sends everything new; returns how many seconds of computing it took to read the run.

        Raises NcsnxError for damaged files, and whatever the tracker raises.
        """
        begun_s = time.thread_time()
        new = [item for item in self._contents() if item[1] > self._notes.sent.get(item[0], -1)]
        read_s = time.thread_time() - begun_s
        noted_s, sent = time.monotonic(), dict(self._notes.sent)
        try:
            for series, place, add in new:
                add()
                sent[series] = place
                if time.monotonic() > noted_s + _NOTES_PERIOD_S:
                    noted_s = time.monotonic()
                    self._note(sent)
        finally:
            if new:
                self._note(sent)
        return read_s

    def _note(self, sent: Mapping[str, int]) -> None:
        self._notes = attrs.evolve(self._notes, sent=dict(sent))
        write_document(self._path, self._notes)

    def _contents(self) -> Iterator[tuple[str, int, Callable[[], None]]]:
        """All that the run has for trackers: a series, the place in it, and what adds it to the record."""
        for record in MetricsLog(self._run).read():
            if numbers := series_of(record):
                step, series = record["step"], "held-out losses" if "held_out" in record else "training losses"
                yield series, step, partial(self._tracker.numbers, step, numbers)
        for file in sorted(self._run.snapshots.glob("*.png")):
            if (step := step_of(file.stem)) is not None:
                yield "samples", step, partial(self._tracker.image, step, "samples", file)
        for key, step, numbers in _measurements(self._run):
            yield key, step, partial(self._tracker.numbers, step, numbers)

    def close(self) -> str:
        """Closes the record; returns the command or address that shows it."""
        self._tracker.close()
        return self._tracker.hint


def _measurements(run: Run) -> Iterator[tuple[str, int, dict[str, float]]]:
    """A key, the step and the numbers of the entries of the ledger; `ncsnx doctor` names those that are damaged."""
    found = [one for one in lines(run) if not isinstance(one, NcsnxError)]
    protocols = {one.digest: one for one in found if isinstance(one, MeasurementProtocol)}
    for entry in (one for one in found if isinstance(one, Entry) and one.protocol in protocols):
        series = Series(run=run, protocol=protocols[entry.protocol], subject=entry.subject)
        measured = {f"{_name(series)}/{key}": value(entry.values, key) for key in entry.values}
        numbers = {key: one for key, one in measured.items() if one is not None}
        if numbers and series.protocol.over == STEPS:  # numbers of comparisons belong to samplers, not to steps
            facts = [entry.protocol, entry.subject.digest, entry.finished, entry.values]
            yield f"measurement {digest(facts)[:16]}", entry.step, numbers


def _name(series: Series) -> str:
    """Name of a series of measurements: fid/n1000-…."""
    return f"{series.protocol.measure}/{series.folder.name}"


def send_run(run: Run, tag: str) -> str:
    """Sends a tracker what its record of the run lacks; returns where to see it.

    Raises NcsnxError, also where another process trains the run, and whatever the tracker raises.
    """
    with writer_lock(run):
        record = TrackerRecord(run, tag)
        record.send()
        return record.close()


@contextmanager
def tracked(
    run: Run,
    tags: tuple[str, ...],
    warn: Callable[[str], None],
    note: Callable[[str], None],
    stopping: Callable[[], bool],
) -> Iterator[None]:
    """Within the block, whose caller holds the run's lock, threads send the run to trackers. A failure is one warning.

    warn, note: show a line. stopping: whether a stop was requested.
    """

    def fail(tag: str, reason: str) -> None:
        rest = f"ncsnx track {run.cli_name} --to {tag}"
        warn(f"{tag} does not have everything: {reason}; the run does, and after training this sends the rest: {rest}")

    def send(tag: str) -> None:
        try:
            record, pause_s = TrackerRecord(run, tag), _PERIOD_S
            while not over.wait(pause_s):
                pause_s = max(_PERIOD_S, record.send() / _SHARE)
            record.send()
            if hint := record.close():
                note(f"{tag}: {hint}")
        except NcsnxError as error:
            fail(tag, error.message)
        except BaseException as error:  # a package may raise anything, and the training matters more
            fail(tag, error_in_words(error))

    over = threading.Event()
    threads = {tag: threading.Thread(target=send, args=(tag,), name=f"tracker {tag}", daemon=True) for tag in tags}
    for thread in threads.values():
        thread.start()
    try:
        yield
    finally:
        over.set()
        ended_s = time.monotonic()
        for tag, thread in threads.items():
            # asked again and again, since a stop shortens the wait
            while thread.is_alive() and time.monotonic() - ended_s < (_STOP_LIMIT_S if stopping() else REST_LIMIT_S):
                thread.join(0.05)
            if thread.is_alive():
                fail(tag, f"it was not done {time.monotonic() - ended_s:.0f} s after training")
