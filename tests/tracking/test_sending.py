"""A run is sent once, and the next process sends the rest to the same record."""

import json
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.config import Images
from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.tracking import sending, tracker
from ncsnx.tracking.sending import TrackerRecord, send_run, tracked
from ncsnx.tracking.tracker import TrackedRun, Tracker
from tests.runs.kept import SMALL, fid, subject
from tests.spaces import space_of

Stored = list[tuple[int, dict[str, Any]]]
opened: list[TrackedRun] = []


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    """The rows of the tracker 'kept', which outlive its records."""
    rows: Stored = []
    tracker.all_trackers()  # modules are imported once, so not while the registry is another
    monkeypatch.setattr(tracker, "_trackers", dict(tracker._trackers))

    @tracker.tracker("kept")
    class Kept(Tracker):
        def __init__(self, run: TrackedRun) -> None:
            opened.append(run)

        def numbers(self, step: int, values: Mapping[str, float]) -> None:
            rows.append((step, dict(values)))

        def image(self, step: int, name: str, file: Path) -> None:
            rows.append((step, {name: file.name}))

        def close(self) -> None:
            pass

    opened.clear()
    return rows


def log(run: Run, *steps: int) -> None:
    for step in steps:
        MetricsLog(run).append({"step": step, "loss": 1 / step, "weights": "raw", "lr": 0.1})


def steps(stored: Stored, name: str) -> list[int]:
    return [step for step, values in stored if name in values]


def test_rows_are_sent_once_while_the_file_grows_and_after_it_was_truncated(run: Run, stored: Stored) -> None:
    log(run, 10, 20)
    record = TrackerRecord(run, "kept")
    assert record.send() > 0
    log(run, 30)
    with run.metrics_path.open("a") as metrics:
        metrics.write('{"step": 40, "lo')
    record.send()
    assert steps(stored, "lr") == [10, 20, 30]
    MetricsLog(run).truncate(20)
    log(run, 30, 35)
    record.send()
    MetricsLog(run).append({"step": 35, "held_out": 2.0, "weights": "ema", "held_out_levels": {"0": 3, "1": math.nan}})
    record.send()
    assert steps(stored, "lr") == [10, 20, 30, 35]
    assert stored[-1] == (35, {"loss/held_out_ema": 2.0, "held_out_level_ema/0": 3.0})


def test_the_next_process_continues_the_same_record(run: Run, stored: Stored) -> None:
    log(run, 10, 20)
    send_run(run, "kept")
    log(run, 30)
    send_run(Run(run.path.rename(run.path.with_name("renamed"))), "kept")
    first, second = opened
    assert steps(stored, "loss/training_raw") == [10, 20, 30]
    assert (second.record, second.name) == (first.record, "small")
    assert (second.config["optimizer"], second.config["batch_size"]) == ("adam", SMALL.batch_size)


def test_a_score_of_an_earlier_checkpoint_is_sent_with_its_protocol(run: Run, stored: Stored) -> None:
    log(run, 30)
    protocol = attrs.evolve(fid(40), words={"": "40 images", "reference": "folder /home/ada/scans"})

    def add(step: int, **values: object) -> None:
        Ledger.read(run).add(protocol, subject(run, step, str(step)), values, {})

    add(20, score=8.0, recall=0.0, metrics={"x": 1})
    send_run(run, "kept")
    (series,) = Ledger.read(run).series("fid")
    name = f"fid/{series.folder.name}"
    assert opened[0].config[name].endswith("seed 0; 40 images; reference: folder scans")
    assert "/home/ada" not in str(opened[0].config)
    add(10, score=9.0)
    run.ledger_path.write_bytes(run.ledger_path.read_bytes() + b"{\n")
    send_run(run, "kept")
    run.ledger_path.write_bytes(run.ledger_path.read_bytes().replace(b"{\n", b"", 1))  # as the doctor advises
    add(20, recall=0.5)
    send_run(run, "kept")
    assert stored[1:] == [
        (20, {f"{name}/score": 8.0, f"{name}/recall": 0.0}),
        (10, {f"{name}/score": 9.0}),
        (20, {f"{name}/recall": 0.5}),
    ]


def test_a_measurement_whose_line_was_fixed_is_sent_and_no_other_twice(run: Run, stored: Stored) -> None:
    for step in (10, 20, 30):
        Ledger.read(run).add(fid(), subject(run, step, str(step)), {"score": float(step)}, {})
    whole = run.ledger_path.read_bytes()
    lines = whole.splitlines(keepends=True)
    run.ledger_path.write_bytes(b"".join([*lines[:1], b"{\n", *lines[2:]]))
    send_run(run, "kept")
    run.ledger_path.write_bytes(whole)
    send_run(run, "kept")
    assert [step for step, _ in stored] == [20, 30, 10]


def test_notes_of_numbered_measurements_still_count(run: Run, stored: Stored) -> None:
    for step in (10, 20, 30):
        Ledger.read(run).add(fid(), subject(run, step, str(step)), {"score": float(step)}, {})
    TrackerRecord(run, "kept")
    path = run.trackers / "kept.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sent": {"measurements": 1}}))
    send_run(run, "kept")
    assert [step for step, _ in stored] == [30]


def test_no_path_to_the_data_is_sent(tmp_path: Path, stored: Stored) -> None:
    data = Images(root="/home/ada/scans", image_size=8)
    run = Run.create(tmp_path, "one", attrs.evolve(SMALL, data=data), {}, None, "f" * 64, space_of(data))
    send_run(run, "kept")
    assert opened[0].config["data.root"] == "scans"


@pytest.mark.parametrize("change", [{"record": "../x"}, {"name": "a/b"}])
def test_damaged_notes_are_refused_with_what_to_do(run: Run, stored: Stored, change: dict[str, Any]) -> None:
    send_run(run, "kept")
    path = run.trackers / "kept.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(NcsnxError, match="remove it to begin a new record"):
        send_run(run, "kept")


def test_a_run_that_trains_is_sent_by_its_own_process(run: Run, stored: Stored) -> None:
    with writer_lock(run), pytest.raises(NcsnxError, match="'small' is being written by"):
        send_run(run, "kept")


@pytest.mark.parametrize(("period_s", "known"), [(-1.0, {"training losses": 10}), (60.0, {})])
def test_what_failed_to_be_sent_is_sent_the_next_time(
    run: Run, stored: Stored, monkeypatch: pytest.MonkeyPatch, period_s: float, known: dict[str, int]
) -> None:
    log(run, 10, 20, 30)
    noted = list[str]()

    def numbers(self: Tracker, step: int, values: Mapping[str, float]) -> None:
        noted.append((run.trackers / "kept.json").read_text())
        if step == 20:
            raise ConnectionError
        stored.append((step, dict(values)))

    with monkeypatch.context() as failing:
        failing.setattr(tracker.known_tracker("kept").open, "numbers", numbers)
        failing.setattr(sending, "_NOTES_PERIOD_S", period_s)
        with pytest.raises(ConnectionError):
            send_run(run, "kept")
    assert json.loads(noted[-1])["sent"] == known, "noted while it sends, in case it is killed"
    send_run(run, "kept")
    assert steps(stored, "lr") == [10, 20, 30]


def test_a_run_that_reads_slowly_is_read_rarely(run: Run, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_PERIOD_S", 0.01)
    read = threading.Semaphore(0)
    send = TrackerRecord.send

    def slow(record: TrackerRecord) -> float:
        log(run, len(stored) + 1)
        send(record)
        read.release()
        return 10.0

    monkeypatch.setattr(TrackerRecord, "send", slow)
    with tracked(run, ("kept",), pytest.fail, pytest.fail, lambda: False):
        assert read.acquire(timeout=60)
        assert not read.acquire(timeout=0.5)
    assert steps(stored, "lr") == [1, 2], "once while it trains, and at the end"
