"""Vanishing data, folders that can't be written, clocks that jump back."""

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ncsnx.data import TrainingBatches, open_data
from ncsnx.data.readers.encoded_pictures import EncodedPictures, FilePictures
from ncsnx.runs.folder import Run
from tests.chaos import mounts
from tests.chaos.trials import LONG, assert_one_error, finish, half_done, holds, unlike
from tests.training.tiny import (
    CPU,
    Result,
    attempt,
    ended,
    files,
    lines,
    overrides,
    start,
    steps_of,
    training,
    wait_until,
)

pytestmark = pytest.mark.chaos

PICTURES = 240
READ_LATE = 24
"""A step with a picture that is removed before the step is reached."""
SLOWLY = """
import time, ncsnx.training.loop as loop
plain = loop._Loop._report_if_due
loop._Loop._report_if_due = lambda *given: (time.sleep(0.15), plain(*given))[1]
"""
"""Slows steps down, so that there is time for mishaps between them."""
SOURCES = {
    "pictures": ("data=images", "data.root=pictures"),
    "packed.bin": ("data=packed", "data.path=packed.bin"),
    "array.npy": ("data=arrays", "data.path=array.npy"),
}


def train(source: str) -> list[str]:
    changes = ["steps=30", "batch_size=8", "checkpoint_every=10", "log_every=1", "eval_every=10"]
    own = [*SOURCES[source], "data.image_size=8", "data.channels=1"]
    return ["train", "digits", *own, *overrides(*changes), "--run", "run", *CPU]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with each source, and the run that it trains undisturbed."""
    folder = tmp_path_factory.mktemp("sources")
    pixels: np.ndarray[Any, Any] = np.random.default_rng(0).integers(0, 256, (PICTURES, 8, 8), dtype=np.uint8)
    (folder / "pictures").mkdir()
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(folder / f"pictures/{number:03d}.png")
    finish("data", "pack", "pictures", "--size", "8", "--out", "packed.bin", folder=folder)
    np.save(folder / "array.npy", pixels[:, None])
    for name in SOURCES:
        (folder / "of" / name).mkdir(parents=True)
        bring(folder, name, folder / "of" / name)
        finish(*train(name), folder=folder / "of" / name)
    return folder


def bring(sources: Path, name: str, place: Path) -> None:
    """Restores a source, whatever is left of it."""
    if (sources / name).is_dir():
        shutil.rmtree(place / name, ignore_errors=True)
        shutil.copytree(sources / name, place / name)
    else:
        shutil.copy2(sources / name, place / name)


def while_training(command: list[str], place: Path, happen: Callable[[], object]) -> Result:
    with start(*command, folder=place, prelude=SLOWLY) as process:
        wait_until(holds(place / "runs/run/metrics.jsonl", "loss"), process)
        happen()
        return ended(process)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def late_picture(place: Path) -> Path:
    """A picture that is first read in step READ_LATE."""
    experiment = Run(place / "runs/run").experiment()
    with contextlib.chdir(place):
        data = open_data(experiment.data, place).train
    index = int(TrainingBatches(data, experiment.batch_size, experiment.seed).indices(READ_LATE)[0])
    assert isinstance(data, EncodedPictures)
    assert isinstance(data.encoded, FilePictures)
    return place / "pictures" / data.encoded.names[int(data.places[index])]


MISHAPS: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...]]] = {
    "a picture is removed": ("pictures", lambda place: late_picture(place).unlink(), ()),
    "a worker's picture is removed": ("pictures", lambda place: late_picture(place).unlink(), ("--workers", "2")),
    "the folder is moved": ("pictures", lambda place: (place / "pictures").rename(place / "x"), ()),
    "a picture is cut": ("pictures", lambda place: halve(late_picture(place)), ()),
    "a pack is cut": ("packed.bin", lambda place: halve(place / "packed.bin/pixels.npy"), ()),
    "an array is cut": ("array.npy", lambda place: halve(place / "array.npy"), ()),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_data_that_vanish_end_the_run_and_with_them_it_resumes(mishap: str, sources: Path, tmp_path: Path) -> None:
    source, happen, options = MISHAPS[mishap]
    run, command = tmp_path / "runs/run", [*train(source), *options]
    bring(sources, source, tmp_path)
    result = while_training(command, tmp_path, lambda: happen(tmp_path))
    reached = max(steps_of(run), default=0)
    assert_one_error(result, source, "fix the data", f"resumes from step {reached:,}")
    assert half_done(tmp_path) == []
    without = attempt(*command, folder=tmp_path)
    assert without.code == 1
    assert "Traceback" not in without.err
    bring(sources, source, tmp_path)
    finish(*command, folder=tmp_path)
    assert unlike(run, sources / "of" / source / "runs/run", but_for=reached) == []


@pytest.mark.parametrize("source", ["packed.bin", "array.npy"])
def test_a_removed_file_that_is_mapped_disturbs_nothing(source: str, sources: Path, tmp_path: Path) -> None:
    bring(sources, source, tmp_path)
    path = tmp_path / source
    result = while_training(train(source), tmp_path, lambda: shutil.rmtree(path) if path.is_dir() else path.unlink())
    assert result.code == 0, result.err
    assert unlike(tmp_path / "runs/run", sources / "of" / source / "runs/run") == []


COMMANDS = {"train": LONG, "sample": ["sample", "digits", "--n", "2", *CPU], "loss": ["loss", "digits", *CPU]}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of half the steps of LONG."""
    folder = tmp_path_factory.mktemp("half")
    finish(*training("steps=20", "checkpoint_every=5", "snapshots.every=2", "eval_every=4"), folder=folder)
    return folder


def assert_goes_on(place: Path, undisturbed: Path) -> None:
    finish(*LONG, folder=place)
    assert unlike(place / "runs/digits", undisturbed / "runs/digits") == []


@pytest.mark.usefixtures("mounting")
def test_on_a_disk_that_is_read_only_one_line_says_so(half: Path, undisturbed: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(half, tmp_path / "work"))
    with mounts.read_only(place / "runs"):
        for command in COMMANDS.values():
            assert_one_error(attempt(*command, folder=place), "Read-only file system")
            assert files(place) == files(half)
    assert_goes_on(place, undisturbed)


CLOCK = """
import datetime, time
class Back:
    calls = 0
real_s = time.time
def jumping():
    Back.calls += 1
    return real_s() - {first_s} - ({later_s} if Back.calls > 12 else 0)
time.time = jumping
class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(jumping(), tz)
# where ncsnx asks for the time; compiled modules of others look into datetime itself, and would not survive another one
import ncsnx.console.messages, ncsnx.storage.process
ncsnx.console.messages.datetime = ncsnx.storage.process.datetime = Wrong
"""
"""Replaces the wall clock of ncsnx: it starts wrong and jumps further back while the command works."""


@pytest.mark.parametrize("back_s", [86_400, 1])
def test_a_jumping_clock_changes_no_bit(back_s: int, chance: random.Random, undisturbed: Path, tmp_path: Path) -> None:
    """TensorBoard's curve may lack a segment, since it orders its files by the times in their names."""
    run = tmp_path / "runs/digits"
    with start(*LONG, folder=tmp_path) as process:
        wait_until(holds(run / "metrics.jsonl", '"step": 10'), process)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        ended(process)
    clock = CLOCK.format(first_s=back_s, later_s=3_600)
    assert "warning" not in finish(*LONG, folder=tmp_path, prelude=clock).err
    assert unlike(run, undisturbed / "runs/digits", has_curves=False) == []
    first, second = (one["started"] for one in lines(run / "segments.jsonl"))
    assert back_s == 1 or first > second, "the clock was not seen to jump"
    finish("sample", "digits", "--n", "2", *CPU, folder=tmp_path, prelude=clock)
