"""Rows are sent once, to trackers that can tell what they hold and to those that can't."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.score_files import ScoreFile
from ncsnx.runs.tracker_records import TrackerNotes, notes_path
from ncsnx.storage.documents import read_document, write_document
from ncsnx.tracking.replica import Replica
from ncsnx.tracking.tracker import TrackedRun, Tracker
from tests.runs.kept import SMALL

PROTOCOL = {"measure": "distance", "n": 40}


class Kept(Tracker):
    """A record in memory, whose rows `stored` outlive the process."""

    tells = True

    def __init__(self, run: TrackedRun, stored: list[tuple[int, dict[str, Any]]]) -> None:
        self.run, self.stored = run, stored
        self.fails_at: int | None = None

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise ConnectionError
        self.stored.append((step, dict(values)))

    def image(self, step: int, name: str, file: Path) -> None:
        self.stored.append((step, {name: file.name}))

    def steps(self, name: str) -> list[int] | None:
        return [step for step, values in self.stored if name in values] if self.tells else None

    def close(self) -> None:
        pass


class Silent(Kept):
    tells = False


Stored = list[tuple[int, dict[str, Any]]]
both = pytest.mark.parametrize("kind", [Kept, Silent])


def opened(run: Run, kind: type[Kept], stored: Stored) -> tuple[Replica, Kept]:
    """A process's view of a record, and its tracker."""
    run.trackers.mkdir(exist_ok=True)
    trackers: list[Kept] = []

    def open_tracker(tracked: TrackedRun) -> Kept:
        trackers.append(kind(tracked, stored))
        return trackers[-1]

    replica = Replica(run, "kept", open_tracker)
    return replica, trackers[0]


def log(run: Run, *steps: int) -> None:
    for step in steps:
        MetricsLog(run).append({"step": step, "loss": 1 / step, "weights": "raw", "lr": 0.1})


def steps(stored: Stored, name: str) -> list[int]:
    return [step for step, values in stored if name in values]


@both
def test_rows_are_sent_once_while_the_file_grows_and_after_it_was_truncated(run: Run, kind: type[Kept]) -> None:
    stored: Stored = []
    log(run, 10, 20)
    replica, _ = opened(run, kind, stored)
    replica.send()
    log(run, 30)
    with run.metrics_path.open("a") as metrics:
        metrics.write('{"step": 40, "lo')
    replica.send()
    assert steps(stored, "lr") == [10, 20, 30]
    MetricsLog(run).truncate(20)
    log(run, 30, 35)
    replica.send()
    MetricsLog(run).append({"step": 35, "held_out": 2.0, "weights": "ema", "held_out_levels": {"0": 3, "1": math.nan}})
    replica.send()
    replica.close()
    assert steps(stored, "lr") == [10, 20, 30, 35]
    assert stored[-1] == (35, {"loss/held_out_ema": 2.0, "held_out_level_ema/0": 3.0})
    assert replica.count == len(stored)


@both
def test_the_next_process_continues_the_same_record(run: Run, kind: type[Kept]) -> None:
    stored: Stored = []
    log(run, 10, 20)
    replica, first = opened(run, kind, stored)
    replica.send()
    replica.close()
    log(run, 30)
    replica, second = opened(Run(run.path.rename(run.path.with_name("renamed"))), kind, stored)
    replica.send()
    assert steps(stored, "loss/training_raw") == [10, 20, 30]
    assert (second.run.record, second.run.name) == (first.run.record, "small")
    assert (first.run.was_interrupted, second.run.was_interrupted) == (False, False)
    assert (second.run.config["optimizer"], second.run.config["batch_size"]) == ("adam", SMALL.batch_size)


def test_a_tracker_that_tells_is_believed_after_a_kill(run: Run) -> None:
    stored: Stored = []
    log(run, *range(1, 11))
    opened(run, Kept, stored)[0].send()
    del stored[7:]  # they were on their way
    replica, again = opened(run, Kept, stored)
    replica.send()
    replica.close()
    assert again.run.was_interrupted
    assert steps(stored, "lr") == list(range(1, 11))


def test_for_one_that_cannot_tell_each_row_is_noted_before_it_is_sent(run: Run) -> None:
    stored: Stored = []
    log(run, *range(1, 11))
    replica, tracker = opened(run, Silent, stored)
    tracker.fails_at = 7
    with pytest.raises(ConnectionError):
        replica.send()
    opened(run, Silent, stored)[0].send()
    assert steps(stored, "lr") == [1, 2, 3, 4, 5, 6, 8, 9, 10]


@both
def test_a_score_of_an_earlier_checkpoint_is_sent_with_its_protocol(run: Run, kind: type[Kept]) -> None:
    stored: Stored = []
    log(run, 30)
    sweep = ScoreFile(run.fid / "n40-x", PROTOCOL, "FD", "40 images")
    sweep.add({"step": 20, "weights_sha256": "a" * 64, "score": 8.0, "recall": 0.5, "metrics": {"x": 1}}, "")
    replica, tracker = opened(run, kind, stored)
    replica.send()
    assert tracker.run.config["fid/n40-x"] == "FD: 40 images"
    sweep.add({"step": 10, "weights_sha256": "b" * 64, "score": 9.0}, "")
    replica.send()
    replica.send()
    replica.close()
    sweep.add({"step": 30, "weights_sha256": "c" * 64, "score": 7.0}, "")
    opened(run, kind, stored)[0].send()
    assert stored[1:] == [
        (20, {"fid/n40-x/score": 8.0, "fid/n40-x/recall": 0.5}),
        (10, {"fid/n40-x/score": 9.0}),
        (30, {"fid/n40-x/score": 7.0}),
    ]


def test_damaged_scores_do_not_keep_losses_back(run: Run) -> None:
    stored: Stored = []
    log(run, 30)
    (run.fid / "n40-x").mkdir(parents=True)
    (run.fid / "n40-x" / "scores.json").write_text("{")
    opened(run, Kept, stored)[0].send()
    assert steps(stored, "lr") == [30]


def test_what_was_not_stored_is_an_error(run: Run) -> None:
    stored: Stored = []
    log(run, 30)
    replica, _ = opened(run, Kept, stored)
    replica.send()
    stored.clear()
    with pytest.raises(NcsnxError, match="did not store loss/training_raw of step 30"):
        replica.close()
    assert read_document(notes_path(run, "kept"), TrackerNotes).is_open


@pytest.mark.parametrize("change", [{"record": "../x"}, {"name": "a/b"}, {"sent": {"lr": "x"}}, {"more": 1}])
def test_damaged_notes_are_refused_with_what_to_do(run: Run, change: dict[str, Any]) -> None:
    opened(run, Kept, [])
    path = notes_path(run, "kept")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(NcsnxError, match="remove it to begin a new record"):
        opened(run, Kept, [])


def test_a_run_without_notes_begins_a_record_of_its_own(run: Run, tmp_path: Path) -> None:
    _, first = opened(run, Kept, [])
    notes = read_document(notes_path(run, "kept"), TrackerNotes)
    write_document(tmp_path / "notes.json", attrs.evolve(notes, record="0" * 16))
    notes_path(run, "kept").unlink()
    _, second = opened(run, Kept, [])
    assert first.run.record != second.run.record
