"""SIGKILL at random moments of the commands that measure, and several of them at once on one run."""

import json
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.trials import debris
from tests.forked import fork
from tests.training.tiny import CPU, lines

pytestmark = pytest.mark.chaos

JUDGE = ("features.steps=30", "features.width=8", *CPU)
MEASURING = {
    "fid": ("--n", "300", "--batch-size", "20", *JUDGE),
    "loss": ("--passes", "4", "--batch-size", "4", *CPU),
    "likelihood": ("--n", "6", "--tolerance", "0.1", "--batch-size", "2", *CPU),
    "compare": ("--samplers", "dpmpp", "--evaluations", "8", "--n", "60", "--seeds", "2", *JUDGE),
    "neighbors": ("--n", "40", "--batch-size", "8", "sampler.steps_per_level=20", *JUDGE),
}
KILLS = 8
"""Kills of each command."""


def copied(trained: Path, place: Path) -> Path:
    return Path(shutil.copytree(trained, place))


def finish(folder: Path, name: str) -> float:
    """Seconds of a command that isn't disturbed."""
    begun_s = time.monotonic()
    with fork(name, "digits", *MEASURING[name], folder=folder) as process:
        err = process.communicate()[1]
    assert process.returncode == 0, err
    return time.monotonic() - begun_s


def numbers(folder: Path) -> dict[str, Any]:
    """The numbers by protocol and subject, each of which has one line; without times."""
    found = [row for row in lines(folder / "runs/digits/measurements.jsonl") if "subject" in row]
    keys = [json.dumps([row["protocol"], row["subject"]], sort_keys=True) for row in found]
    assert [key for key, count in Counter(keys).items() if count > 1] == []
    return {key: {**row["values"], "seconds": None} for key, row in zip(keys, found, strict=True)}


@pytest.mark.parametrize("name", MEASURING)
def test_a_measurement_that_is_killed_again_and_again_has_the_numbers_of_an_undisturbed_one(
    name: str, trained: Path, chance: random.Random, tmp_path: Path
) -> None:
    finish(copied(trained, tmp_path / "first"), name)  # trains what all share in the cache
    whole = copied(trained, tmp_path / "whole")
    whole_s = finish(whole, name)
    place, kills, places = copied(trained, tmp_path / "work-0"), 0, 1
    while kills < KILLS:
        with fork(name, "digits", *MEASURING[name], folder=place) as process:
            time.sleep(chance.uniform(0, whole_s))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
        else:  # it was done before
            assert numbers(place) == numbers(whole)
            place, places = copied(trained, tmp_path / f"work-{places}"), places + 1
    finish(place, name)
    assert numbers(place) == numbers(whole)
    assert not list(place.glob("runs/digits/*/*/.parts/*"))
    assert debris(place / "runs") == []


def test_commands_that_measure_one_run_at_once_lose_no_number(trained: Path, tmp_path: Path) -> None:
    names = [*MEASURING, "fid", "loss"]
    one_by_one = copied(trained, tmp_path / "one-by-one")
    for name in MEASURING:
        finish(one_by_one, name)
    together = copied(trained, tmp_path / "together")
    started = [fork(name, "digits", *MEASURING[name], folder=together) for name in names]
    for process in started:
        with process:
            process.communicate()
    for name in names:  # a second command of the same measurement may have been refused
        finish(together, name)
    assert numbers(together) == numbers(one_by_one)
