"""Trainings with trackers: resumed without doubled steps, and no tracker stops a training."""

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncsnx.tracking import sending, tracker
from ncsnx.tracking.tracker import all_trackers
from tests.conftest import TOY_PACKAGE
from tests.training.tiny import Result, command, lines, overrides, training

FAULTY = '''\
"""Trackers that do what the environment's trackers may do one day."""

import time

from ncsnx.tracking.tracker import Tracker, tracker


class Faulty(Tracker):
    def __init__(self, run):
        pass

    def numbers(self, step, values):
        pass

    def image(self, step, name, file):
        pass

    def close(self):
        pass


@tracker("raising")
class Raising(Faulty):
    def numbers(self, step, values):
        raise ConnectionError("example.org has gone\\nand so on")


@tracker("hanging")
class Hanging(Faulty):
    def close(self):
        time.sleep(600)
'''


def install_trackers(site: Path) -> Path:
    """A folder for the import path with the trackers of tests/toy_package/ and those of FAULTY."""
    info = site / "ncsnx_trackers-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(TOY_PACKAGE / "src" / "json_lines_tracker.py", site)
    (site / "faulty_trackers.py").write_text(FAULTY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ncsnx-trackers\nVersion: 1.0\n")
    entries = "[ncsnx.trackers]\njson_lines = json_lines_tracker\nfaulty = faulty_trackers\n"
    (info / "entry_points.txt").write_text(entries)
    return site


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, where the trackers of `install_trackers` are installed."""
    all_trackers()  # in this process, those of installed packages are looked for once
    monkeypatch.syspath_prepend(install_trackers(tmp_path / "site"))
    monkeypatch.setattr(tracker, "_trackers", dict(tracker._trackers))
    for module in ("json_lines_tracker", "faulty_trackers"):
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.import_module(module)
    yield tmp_path
    for module in ("json_lines_tracker", "faulty_trackers"):
        sys.modules.pop(module, None)


def rows(place: Path) -> list[dict[str, object]]:
    """The rows of the one record of json-lines."""
    (record,) = (place / "json-lines").iterdir()
    return lines(record)


def steps(place: Path, name: str) -> list[object]:
    return [row["step"] for row in rows(place) if name in row]


def warnings(result: Result) -> list[str]:
    return [line for line in result.err.splitlines() if line.startswith("warning: ")]


def test_a_resumed_run_continues_its_record_without_doubled_steps(place: Path) -> None:
    first = command(*training("steps=6", "--no-report"), "--track", "json-lines", folder=place)
    assert (first.code, warnings(first)) == (0, [])
    run = place / "runs" / "digits"
    with (run / "metrics.jsonl").open("a") as metrics:  # rows of a process that was killed before its checkpoint
        metrics.write(json.dumps({"step": 8, "loss": 1.5, "weights": "raw", "lr": 0.001}) + "\n")
    assert command("track", "digits", folder=place).code == 0
    resumed = command("train", "runs/digits", *overrides("steps=12"), "--threads", "1", "--no-report", folder=place)
    assert (resumed.code, warnings(resumed)) == (0, [])
    assert steps(place, "loss/training_raw") == [2, 4, 6, 8, 10, 12]
    assert [record["step"] for record in lines(run / "metrics.jsonl") if "loss" in record] == [2, 4, 6, 8, 10, 12]
    assert steps(place, "loss/held_out_ema") == steps(place, "held_out_level_ema/0") == [3, 6, 9, 12]
    assert steps(place, "samples") == [4, 6, 8, 12]
    (config, *_) = (row["config"] for row in rows(place) if "config" in row)
    assert isinstance(config, dict)
    assert (config["optimizer"], config["optimizer.lr"], config["data"]) == ("adam", 0.002, "digits")
    assert command("doctor", "digits", folder=place).code == 0


def test_trackers_that_fail_are_said_once_and_change_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "REST_LIMIT_S", 5.0)
    tags = "json-lines,raising,hanging"
    tracked = command(*training("steps=6", "--no-report"), "--track", tags, folder=place).done()
    said = {line.split()[1]: line for line in warnings(tracked)}
    assert said.keys() == {"raising", "hanging"}
    assert len(warnings(tracked)) == 2
    assert "ConnectionError: example.org has gone and so on" in said["raising"]
    assert "s after training" in said["hanging"]
    assert all(line.endswith(f"this sends the rest: ncsnx track digits --to {tag}") for tag, line in said.items())
    assert steps(place, "lr") == [2, 4, 6]
    command(*training("steps=6", "--no-report"), "--run", "other", folder=place)
    weights = "digits/checkpoints/step-00000006/model.safetensors"
    runs = place / "runs"
    assert (runs / weights).read_bytes() == (runs / weights.replace("digits", "other", 1)).read_bytes()
