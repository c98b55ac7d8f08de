"""Shared parts of the trials: a run of seconds, its processes, and the comparison of two runs."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints, verify
from ncsnx.runs.names import step_name
from tests.cli.command import REPOSITORY
from tests.training.tiny import Result, events, files, saved, start, steps_of, training

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it logs every restart that it reads

T = TypeVar("T")

# long enough for faults anywhere: 8 checkpoints, 4 grids, held-out losses between them
LONG = training("steps=40", "checkpoint_every=5", "snapshots.every=2", "eval_every=4")
PATIENCE_S = 300.0
CURVES = ("loss/training_raw", "loss/held_out_ema")


def finish(*command: str, folder: Path) -> Result:
    """Runs `ncsnx COMMAND` as a process until it ends by itself."""
    with start(*command, folder=folder) as process:
        return result_of(process)


def finish_after(prelude: str, *command: str, folder: Path) -> Result:
    """Runs `ncsnx COMMAND` as a process that first executes `prelude`, Python code that changes its environment."""
    with start_after(prelude, *command, folder=folder) as process:
        return result_of(process)


def result_of(process: "subprocess.Popen[str]") -> Result:
    """Result of a process. After PATIENCE_S it is killed and the trials end."""
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except BaseException:
        process.kill()
        raise
    return Result(process.returncode, out, err)


def start_after(prelude: str, *command: str, folder: Path, through: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """Starts the process of `finish_after`. through: a program that runs it, such as nohup."""
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
    """Ends the trials if an undisturbed command failed, since there is nothing to compare with."""
    if result.code != 0:
        raise SystemExit(f"without any disturbance it failed: {result.err}")


def side_by_side(work: Callable[[T], None], pieces: Iterable[T]) -> None:
    """Does independent pieces of work in parallel, one per processor (at most 4)."""
    with ThreadPoolExecutor(max(1, min(4, len(os.sched_getaffinity(0))))) as pool:
        for _ in pool.map(work, pieces):
            pass


def unlike(run: Path, expected: Path, but_for: int | None = None, *, has_curves: bool = True) -> list[str]:
    """Differences of a run from an undisturbed one: checkpoints, EMA, metrics, curves, grids, leftover files.

    but_for: a step at which the run was stopped cleanly; the other run may lack a checkpoint there.
    has_curves: whether TensorBoard shows the curves.
    """
    is_trained = (expected / "metrics.jsonl").exists()  # an imported run has no metrics
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
        curves = CURVES if has_curves else ()
        problems += [f"the curve of {name} differs" for name in curves if events(run, name) != events(expected, name)]
    if files(run / "snapshots") != files(expected / "snapshots"):
        problems.append("the grids differ")
    return problems


def debris(folder: Path) -> list[str]:
    """Half-written files anywhere in a folder."""
    return [f"debris: {path.relative_to(folder)}" for path in sorted(folder.rglob(".*.tmp-*"))]


def unsound(run: Path) -> list[str]:
    """Problems of a run's checkpoints."""
    problems = []
    place = Run(run)
    for step in checkpoints(place):
        try:
            verify(place.checkpoints / step_name(step))
        except NcsnxError as error:
            problems.append(f"the checkpoint of step {step} is unsound: {error}")
    return problems


def one_line(result: Result, *expected: str, code: int = 1) -> list[str]:
    """Problems with how a command failed. expected: words in its one error line or in the hints below it."""
    problems = [] if result.code == code else [f"exit code {result.code} instead of {code}"]
    if "Traceback" in result.err or "Exception in thread" in result.err:
        problems.append("a traceback")
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        problems.append(f"{len(errors)} lines of error")
    _, _, message = result.err.partition("error: ")
    problems += [f"{words!r} is not in the error" for words in expected if words not in message]
    return [*problems, f"it said: {result.err.strip()[-1500:]}"] if problems else []
