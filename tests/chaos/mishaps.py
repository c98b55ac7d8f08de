"""Item 6: divergence, vanishing data, read-only folders, clocks that jump back."""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image
from safetensors.torch import load_file

from ncsnx.data import TrainingBatches, open_data
from ncsnx.runs.folder import Run
from tests.chaos import mounts
from tests.chaos.report import Tally
from tests.chaos.trials import (
    LONG,
    debris,
    finish,
    finish_after,
    must,
    one_line,
    result_of,
    start_after,
    unlike,
    unsound,
)
from tests.chaos.watching import holds, wait_for
from tests.training.tiny import CPU, Result, files, lines, overrides, start, steps_of, training

PICTURES = 240
STEPS = 30
READ_LATE = 24
"""A step with a picture that is removed before the step is reached."""
SLOWLY = """
import time, ncsnx.training.loop as loop
plain = loop._Training._report_if_due
loop._Training._report_if_due = lambda *given: (time.sleep(0.15), plain(*given))[1]
"""
"""Slows steps down, so that there is time for mishaps between them."""


def trials(tally: Tally, folder: Path) -> None:
    for name, one in (
        ("NaN and infinity", non_finite),
        ("vanishing data", vanishing),
        ("folders that cannot be written", read_only),
        ("clocks that jump back", clocks),
    ):
        before = tally.tried
        place = folder / one.__name__
        place.mkdir()
        one(tally, place)
        tally.count(name, tally.tried - before)


def non_finite(tally: Tally, folder: Path) -> None:
    """The run ends and says why and what to try; earlier checkpoints stay, and their weights are finite."""
    giant = ("optimizer=sgd", "snapshots=none")
    for name, changes, reason, kept in (
        ("a loss at once", ("optimizer.lr=1e30", "checkpoint_every=4"), "the loss is not finite", []),
        (
            "a loss after a checkpoint",
            ("optimizer.lr=1e12", "checkpoint_every=1"),
            "the loss is not finite at step 2",
            [1],
        ),
        ("a weight", ("optimizer.lr=3e38", "checkpoint_every=1"), "a weight is not finite at step 1", []),
    ):
        place = folder / name.replace(" ", "-")
        place.mkdir()
        run = place / "runs/digits"
        for again in ("", ", started again"):
            result = finish(*training(*giant, *changes), folder=place)
            problems = one_line(result, reason, "optimizer.lr=", "--run NAME")
            problems += [*debris(place), *unsound(run)]
            if steps_of(run) != kept:
                problems.append(f"checkpoints of {steps_of(run)} instead of {kept}")
            for step in steps_of(run):
                weights = load_file(run / f"checkpoints/step-{step:08d}/model.safetensors")
                if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
                    problems.append(f"weights of step {step} are not finite")
            if reason not in (run / "log.txt").read_text():
                problems.append("log.txt does not say it")
            tally.trial(f"{name}{again}", problems)


def vanishing(tally: Tally, folder: Path) -> None:
    """A data file is removed while the run trains: it writes a checkpoint and names the file, and resumes."""
    pictures = Source("pictures", ("data=images", "data.root=pictures"))
    packed = Source("packed.bin", ("data=packed", "data.path=packed.bin"))
    array = Source("array.npy", ("data=arrays", "data.path=array.npy"))
    expected = folder / "undisturbed"
    expected.mkdir()
    _write_pictures(expected / pictures.name, tally.seed)
    must(finish("data", "pack", pictures.name, "--size", "8", "--out", packed.name, folder=expected))
    np.save(expected / array.name, _pixels(tally.seed)[:, None])
    for source in (pictures, packed, array):
        must(finish(*source.command(), folder=expected))
    for workers in (0, 2):
        name = f"a picture is removed, {workers} workers"
        _vanish(tally, folder, expected, pictures, name, _remove_picture, "--workers", str(workers))
    _vanish(
        tally, folder, expected, pictures, "the folder is moved", lambda place: (place / "pictures").rename(place / "x")
    )
    _vanish(tally, folder, expected, pictures, "a picture is cut in half", _halve_picture)
    for source, path in ((packed, "packed.bin/pixels.npy"), (array, array.name)):
        _vanish(
            tally,
            folder,
            expected,
            source,
            f"{source.name} is cut in half",
            lambda place, path=path: _halve(place / path),
        )
        _removed_but_mapped(tally, folder, expected, source)


@attrs.frozen
class Source:
    """A file or folder of pictures."""

    name: str
    data: tuple[str, ...]

    def command(self) -> list[str]:
        changes = [f"steps={STEPS}", "batch_size=8", "checkpoint_every=10", "log_every=1", "eval_every=10"]
        own = [*self.data, "data.image_size=8", "data.channels=1"]
        return ["train", "digits", *own, *overrides(*changes), "--run", self.name.split(".")[0], *CPU]

    def run(self, place: Path) -> Path:
        return place / "runs" / self.name.split(".")[0]

    def remove(self, place: Path) -> None:
        """Removes the source."""
        path = place / self.name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def bring(self, origin: Path, place: Path) -> None:
        """Restores the source, whatever is left of it."""
        if (origin / self.name).is_dir():
            shutil.rmtree(place / self.name, ignore_errors=True)
            shutil.copytree(origin / self.name, place / self.name)
        else:
            place.mkdir(exist_ok=True)
            shutil.copy2(origin / self.name, place / self.name)


def _vanish(
    tally: Tally,
    folder: Path,
    expected: Path,
    source: Source,
    name: str,
    vanish: Callable[[Path], object],
    *options: str,
) -> None:
    place = folder / name.replace(" ", "-").replace(",", "")
    source.bring(expected, place)
    command = [*source.command(), *options]
    run = source.run(place)
    result = _while_training(command, place, run, vanish)
    problems = one_line(result, source.name, "fix the data", "it resumes from step")
    reached = steps_of(run)[-1] if steps_of(run) else 0
    if f"resumes from step {reached:,}" not in result.err:
        problems.append(f"checkpoints of {steps_of(run)}, but it said: {result.err[-300:]}")
    problems += [*debris(place), *unsound(run)]
    gone = finish(*command, folder=place)
    if gone.code != 1 or "Traceback" in gone.err:
        problems.append(f"started again without it, it ended with {gone.code}: {gone.err[-500:]}")
    source.bring(expected, place)
    again = finish(*command, folder=place)
    if again.code != 0:
        problems.append(f"with it back, it ended with {again.code}: {again.err[-1000:]}")
    problems += unlike(run, source.run(expected), but_for=reached)
    tally.trial(name, problems)


def _removed_but_mapped(tally: Tally, folder: Path, expected: Path, source: Source) -> None:
    """A removed file stays available to processes that have it mapped: the run ends as if undisturbed."""
    place = folder / f"{source.name}-goes"
    source.bring(expected, place)
    run = source.run(place)
    result = _while_training(source.command(), place, run, source.remove)
    problems = [] if result.code == 0 else [f"it ended with {result.code}: {result.err[-1000:]}"]
    tally.trial(f"{source.name} is removed", [*problems, *unlike(run, source.run(expected))])


def _while_training(command: list[str], place: Path, run: Path, happen: Callable[[Path], object]) -> Result:
    with start_after(SLOWLY, *command, folder=place) as process:
        if not wait_for(holds(run / "metrics.jsonl", "loss"), process):
            raise SystemExit(f"the run does not train: {process.communicate()[1]}")
        happen(place)
        return result_of(process)


def _pixels(seed: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.random.default_rng(seed).integers(0, 256, (PICTURES, 8, 8), dtype=np.uint8)


def _write_pictures(folder: Path, seed: int) -> None:
    folder.mkdir()
    for number, one in enumerate(_pixels(seed)):
        Image.fromarray(one).save(folder / f"{number:03d}.png")


def _late_picture(place: Path) -> Path:
    """A picture that is first read in step READ_LATE."""
    experiment = Run(place / "runs/pictures").experiment()
    with contextlib.chdir(place):
        train = open_data(experiment.data, place).train
    batches = TrainingBatches(train, experiment.batch_size, experiment.seed)
    index = int(batches.indices(READ_LATE)[0])
    return place / "pictures" / train.names[index]  # type: ignore[attr-defined]


def _remove_picture(place: Path) -> None:
    _late_picture(place).unlink()


def _halve_picture(place: Path) -> None:
    _halve(_late_picture(place))


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def read_only(tally: Tally, folder: Path) -> None:
    """Nothing is written, nothing is lost, and one line names the folder."""
    expected = folder / "undisturbed"
    expected.mkdir()
    must(finish(*LONG, folder=expected))
    half = training("steps=20", "checkpoint_every=5", "snapshots.every=2", "eval_every=4")
    commands = {
        "train": LONG,
        "sample": ["sample", "digits", "--n", "2", *CPU],
        "loss": ["loss", "digits", *CPU],
    }
    trained = folder / "half"
    trained.mkdir()
    must(finish(*half, folder=trained))
    if mounts.can_mount():
        place = Path(shutil.copytree(trained, folder / "mounted"))
        with mounts.read_only(place / "runs"):
            for name, command in commands.items():
                result = finish(*command, folder=place)
                _unchanged(
                    tally, f"{name} on a disk that is read-only", result, "Read-only file system", place, trained
                )
        _goes_on(tally, "train on that disk, writable again", place, expected)
    else:
        tally.facts.append("nothing may be mounted here: no disk was read-only")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        tally.facts.append("no setpriv here: as the superuser, no folder was without permission")
        return
    place = Path(shutil.copytree(trained, folder / "forbidden"))
    _permit(place, False)
    for name, command in commands.items():
        with _start_unprivileged(command, place) as process:
            result = result_of(process)
        _unchanged(tally, f"{name} in a folder without permission", result, "Permission denied", place, trained)
    _permit(place, True)
    _taken_away(tally, place, expected)


def _taken_away(tally: Tally, place: Path, expected: Path) -> None:
    """Write permission is removed during training."""
    run = place / "runs/digits"
    before = (run / "metrics.jsonl").stat().st_size
    with _start_unprivileged(LONG, place, SLOWLY) as process:
        wait_for(lambda: (run / "metrics.jsonl").stat().st_size > before, process)
        _permit(place, False)
        result = result_of(process)
    problems = [*one_line(result, "Permission denied", "runs/digits"), *unsound(run)]
    _permit(place, True)
    tally.trial("permission is removed during training", [*problems, *debris(place)])
    _goes_on(tally, "train with permission again", place, expected)


def _unchanged(tally: Tally, name: str, result: Result, reason: str, place: Path, before: Path) -> None:
    problems = one_line(result, reason)
    if files(place) != files(before):
        problems.append("files have changed")
    tally.trial(name, [*problems, *debris(place)])


def _goes_on(tally: Tally, name: str, place: Path, expected: Path) -> None:
    result = finish(*LONG, folder=place)
    problems = [] if result.code == 0 else [f"it ended with {result.code}: {result.err[-1000:]}"]
    tally.trial(name, [*problems, *unlike(place / "runs/digits", expected / "runs/digits")])


def _permit(place: Path, permitted: bool) -> None:
    for path in (place / "runs", *(place / "runs").rglob("*")):
        mode = 0o755 if path.is_dir() else 0o644
        path.chmod(mode if permitted else mode & 0o555)


def _start_unprivileged(command: list[str], place: Path, prelude: str = "") -> "subprocess.Popen[str]":
    """Starts a process to which permissions apply, even if this process runs as root."""
    dropped = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    return start_after(prelude, *command, folder=place, through=dropped)


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


def clocks(tally: Tally, folder: Path) -> None:
    """The clock jumps back a day between two segments and an hour within each: bits and order stay the same.

    TensorBoard's curve may lack a segment, since it orders its files by the times in their names.
    """
    expected = folder / "undisturbed"
    expected.mkdir()
    must(finish(*LONG, folder=expected))
    chance = random.Random(f"clocks {tally.seed}")
    for number, back_s in enumerate((86_400, 3_600, 1)):
        place = folder / f"back-{number}"
        place.mkdir()
        with start(*LONG, folder=place) as process:
            wait_for(holds(place / "runs/digits/metrics.jsonl", '"step": 10'), process)
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
            result_of(process)
        clock = CLOCK.format(first_s=back_s, later_s=3_600)
        result = finish_after(clock, *LONG, folder=place)
        problems = [] if result.code == 0 and "warning" not in result.err else [f"{result.code}: {result.err[-1000:]}"]
        problems += unlike(place / "runs/digits", expected / "runs/digits", has_curves=False)
        starts = [one["started"] for one in lines(place / "runs/digits/segments.jsonl")]
        if back_s > 60 and not starts[0] > starts[1]:
            problems.append(f"the clock was not seen to jump: {starts}")
        tally.trial(f"{back_s:,} s back between two starts, an hour back within the second", problems)
        sampled = finish_after(clock, "sample", "digits", "--n", "2", *CPU, folder=place)
        tally.trial(f"sample {back_s:,} s before the run", [] if sampled.code == 0 else [sampled.err])
