"""Sends a tracker what a run has and the tracker's record lacks: losses, grids of samples, scores.

Each number is sent once. Steps that are trained again after a kill aren't sent again; the record then holds what the
killed process logged, which is equal to the bit on one machine's CPUs. A tracker that can tell what it holds is asked.
For another, the run's notes count, and they are written before the row is sent.
"""

import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ncsnx.config.codec import flatten, unstructure
from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import series_of
from ncsnx.runs.names import step_of
from ncsnx.runs.score_files import SCORES, Row, ScoreFile, sweep_folders, value
from ncsnx.runs.tracker_records import TrackerNotes, notes_path
from ncsnx.storage.documents import read_document, write_document
from ncsnx.storage.json_lines import RecordFollower
from ncsnx.tracking.tracker import Scalar, TrackedRun, Tracker

GRIDS = "samples"
"""Series of the grids of samples."""
_MOST_TEXT = 500
"""Longest text of a value of the configuration."""


class Replica:
    """A tracker's record of a run, kept up by one process, which holds the tracker's lock."""

    def __init__(self, run: Run, tag: str, open_tracker: Callable[[TrackedRun], Tracker]) -> None:
        """Opens the record. Raises NcsnxError for damaged files, and whatever the tracker raises."""
        self._run, self._path = run, notes_path(run, tag)
        found = _read_notes(self._path)
        self._name = run.name if found is None else found.name
        self._record = secrets.token_hex(8) if found is None else found.record
        self._sent = {} if found is None else dict(found.sent)
        self._scores = {} if found is None else {name: set(steps) for name, steps in found.scores.items()}
        experiment = run.experiment()
        self._averaged = "raw" if experiment.ema is None else "ema"
        self._rows = RecordFollower(run.metrics_path)
        self._score_times: dict[Path, int] = {}
        self._asked: set[str] = set()
        self._telling: set[str] = set()
        self._newest: tuple[str, int] | None = None
        self.count = 0
        """Rows and images sent by this process."""
        config = {path: _scalar(value) for path, value in flatten(unstructure(experiment)) if path}
        self._write_notes(is_open=True)
        self._tracker = open_tracker(
            TrackedRun(
                name=self._name,
                record=self._record,
                config={
                    **config,
                    **{name: f"{sweep.metric}: {sweep.caption}" for name, sweep in self._sweeps(news=False)},
                },
                was_interrupted=found is not None and found.is_open,
            )
        )

    @property
    def hint(self) -> str:
        """The command or address that shows the record."""
        return self._tracker.hint

    def send(self) -> None:
        """Sends everything new. Raises NcsnxError for damaged files, and whatever the tracker raises."""
        before = self.count
        for record in self._rows.new_records():
            step = record.get("step")
            if type(step) is int:
                self._send_ascending(step, series_of(record, self._averaged))
        for step, file in self._grids():
            if step > self._sent.get(GRIDS, -1):
                self._note({GRIDS: step})
                self._tracker.image(step, GRIDS, file)
                self.count += 1
        for name, sweep in self._sweeps(news=True):
            for row in sweep.rows:
                self._send_scores(name, row)
        if self.count > before:
            self._write_notes(is_open=True)

    def close(self) -> None:
        """Closes the record. Raises whatever the tracker raises, and NcsnxError if it hasn't stored the newest row."""
        self._tracker.close()
        if self._newest is not None:
            name, step = self._newest
            stored = self._tracker.steps(name)
            if stored is not None and step not in stored:
                raise NcsnxError(f"it did not store {name} of step {step:,}")
        self._write_notes(is_open=False)

    def _send_ascending(self, step: int, values: Mapping[str, float]) -> None:
        new = {name: one for name, one in values.items() if math.isfinite(one) and step > self._last(name)}
        if new:
            self._note(dict.fromkeys(new, step))
            self._tracker.numbers(step, new)
            self._newest = next(iter(new)), step
            self.count += 1

    def _send_scores(self, sweep: str, row: Row) -> None:
        """Sends the numbers of a row of a sweep; a checkpoint may be scored long after later ones."""
        step = row["step"]
        numbers = {f"{sweep}/{key}": value(row, key) for key in row if key != "step"}
        new = {name: one for name, one in numbers.items() if one is not None and step not in self._scored(name)}
        if new:
            for name in new:
                self._scores[name].add(step)
            self._write_notes(is_open=True)
            self._tracker.numbers(step, new)
            self.count += 1

    def _last(self, name: str) -> int:
        """The last step of a series that the record has; -1 if it has none."""
        if name not in self._asked:
            self._asked.add(name)
            steps = self._tracker.steps(name)
            if steps is not None:
                self._telling.add(name)
                self._sent[name] = max(steps, default=-1)
        return self._sent.get(name, -1)

    def _scored(self, name: str) -> set[int]:
        """The steps of a series of scores that the record has."""
        if name not in self._asked:
            self._asked.add(name)
            steps = self._tracker.steps(name)
            self._scores[name] = self._scores.get(name, set()) if steps is None else set(steps)
        return self._scores[name]

    def _note(self, steps: Mapping[str, int]) -> None:
        """Notes what is sent next; at once, if the tracker can't tell later whether it has arrived."""
        self._sent |= steps
        if not self._telling >= steps.keys():
            self._write_notes(is_open=True)

    def _write_notes(self, *, is_open: bool) -> None:
        notes = TrackerNotes(
            name=self._name,
            record=self._record,
            is_open=is_open,
            sent={name: step for name, step in self._sent.items() if step >= 0},
            scores={name: tuple(sorted(steps)) for name, steps in self._scores.items()},
        )
        write_document(self._path, notes)

    def _grids(self) -> Iterator[tuple[int, Path]]:
        try:
            paths = sorted(self._run.snapshots.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise NcsnxError(f"cannot read {self._run.snapshots}: {error.strerror}") from error
        for path in paths:
            step = step_of(path.name.removesuffix(".png"))
            if path.suffix == ".png" and step is not None:
                yield step, path

    def _sweeps(self, *, news: bool) -> Iterator[tuple[str, ScoreFile]]:
        """Sweeps with their path in the run, such as fid/n1000-…; news: those that changed since the last time."""
        for place in (self._run.fid, self._run.likelihood, self._run.loss):
            for folder in sweep_folders(place):
                try:
                    changed = (folder / SCORES).lstat().st_mtime_ns
                    if news and self._score_times.get(folder) == changed:
                        continue
                    sweep = ScoreFile.read(folder)
                except FileNotFoundError:  # no score yet
                    continue
                except NcsnxError as error:
                    print(f"left out: {error}")
                    continue
                if news:
                    self._score_times[folder] = changed
                yield f"{place.name}/{folder.name}", sweep


def _read_notes(path: Path) -> TrackerNotes | None:
    try:
        return read_document(path, TrackerNotes)
    except FileNotFoundError:
        return None


def _scalar(value: object) -> Scalar:
    """A value of the configuration as trackers take it; lists as text, and text cut to a length that all accept."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"
