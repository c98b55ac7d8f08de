"""What the trials have in common: a run of seconds, its processes, and how two runs are compared."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import checkpoints, verify
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from tests.cli.command import REPOSITORY
from tests.training.tiny import Result, events, files, saved, start, steps_of, training

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every restart that it reads

T = TypeVar("T")

# long enough to be struck anywhere: 8 checkpoints, 4 grids, held-out losses between them
LONG = training("steps=40", "checkpoint_every=5", "snapshots.every=2", "eval_every=4")
PATIENCE_S = 300.0
CURVES = ("loss/training_raw", "loss/held_out_ema")


def finish(*command: str, folder: Path) -> Result:
    """`ncsnx COMMAND` as a process that is left to end by itself."""
    with start(*command, folder=folder) as process:
        return result_of(process)


def finish_after(prelude: str, *command: str, folder: Path) -> Result:
    """`ncsnx COMMAND` as a process that first runs `prelude`, Python that changes its world."""
    with start_after(prelude, *command, folder=folder) as process:
        return result_of(process)


def result_of(process: "subprocess.Popen[str]") -> Result:
    """How a process ends, which it must within PATIENCE_S; else it is killed, and the trials end."""
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except BaseException:
        process.kill()
        raise
    return Result(process.returncode, out, err)


def start_after(prelude: str, *command: str, folder: Path, through: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """Starts what `finish_after` waits for; through: a program that starts it in its turn."""
    code = f"import sys\nsys.argv = ['ncsnx', *sys.argv[1:]]\n{prelude}\nfrom ncsnx.cli import main\nmain()"
    return subprocess.Popen(
        [*through, sys.executable, "-c", code, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def must(result: Result) -> None:
    """Ends everything where what nothing disturbs fails: there is nothing to compare with."""
    if result.code != 0:
        raise SystemExit(f"without any disturbance it failed: {result.err}")


def side_by_side(work: Callable[[T], None], pieces: Iterable[T]) -> None:
    """Does independent pieces of work, as many at a time as there are processors (4 at most)."""
    with ThreadPoolExecutor(max(1, min(4, len(os.sched_getaffinity(0))))) as pool:
        for _ in pool.map(work, pieces):
            pass


def unlike(run: Path, expected: Path, but_for: int | None = None) -> list[str]:
    """In what a run differs from one that nothing disturbed: checkpoints, averages, numbers, curves, grids, debris.

    but_for: a step at which the run ended in good order, and has a checkpoint that the other needn't have.
    """
    is_trained = (expected / "metrics.jsonl").exists()  # one that was imported has no numbers
    if (run / "metrics.jsonl").exists() != is_trained:
        return ["it recorded nothing" if is_trained else "it recorded numbers"]
    problems = debris(run.parent)
    steps = [step for step in steps_of(run) if step != but_for or step in steps_of(expected)]
    if steps != steps_of(expected):
        problems.append(f"checkpoints of {steps} instead of {steps_of(expected)}")
    for step in sorted(set(steps) & set(steps_of(expected))):
        here, there = saved(run, step), saved(expected, step)
        problems += [f"{name} of step {step} differs" for name in there if here.get(name) != there[name]]
    if is_trained:
        if (run / "metrics.jsonl").read_bytes() != (expected / "metrics.jsonl").read_bytes():
            problems.append("metrics.jsonl differs")
        problems += [f"the curve of {name} differs" for name in CURVES if events(run, name) != events(expected, name)]
    if files(run / "snapshots") != files(expected / "snapshots"):
        problems.append("the grids differ")
    return problems


def debris(folder: Path) -> list[str]:
    """What was left half written anywhere in a folder."""
    return [f"debris: {path.relative_to(folder)}" for path in sorted(folder.rglob(".*.tmp-*"))]


def unsound(run: Path) -> list[str]:
    """What is wrong with the checkpoints that a run shows."""
    problems = []
    place = Run(run)
    for step in checkpoints(place):
        try:
            verify(place.checkpoints / step_name(step))
        except NcsnxError as error:
            problems.append(f"the checkpoint of step {step} is unsound: {error}")
    return problems


def one_line(result: Result, *expected: str, code: int = 1) -> list[str]:
    """What is wrong with how a command failed: expected are this exit code, and one line that holds these words."""
    problems = [] if result.code == code else [f"exit code {result.code} instead of {code}"]
    if "Traceback" in result.err or "Exception in thread" in result.err:
        problems.append("a traceback")
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        problems.append(f"{len(errors)} lines of error")
    problems += [f"{words!r} is not in the error" for words in expected if not any(words in line for line in errors)]
    return [*problems, f"it said: {result.err.strip()[-1500:]}"] if problems else []
