"""Shared parts of the tests: a run of seconds, and the comparison of two runs."""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints, verify
from ncsnx.runs.names import step_name
from tests.training.tiny import Result, attempt, events, files, saved, steps_of, training, wait_until

# long enough for faults anywhere: 8 checkpoints, 4 grids, held-out losses between them
LONG = training("steps=40", "checkpoint_every=5", "snapshots.every=2", "eval_every=4")
CURVES = ("loss/training_raw", "loss/held_out_ema")


def finish(*command: str, folder: Path, prelude: str = "") -> Result:
    """Runs `ncsnx COMMAND` as a process, which must succeed."""
    return attempt(*command, folder=folder, prelude=prelude).done()


def half_written(place: Path) -> set[str]:
    """Names of the temporary folders of checkpoints, current or left over, in the runs of `place`."""
    return {path.name for path in place.glob("runs/*/checkpoints/.step-*.tmp-*")}


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Waits until the condition holds or the process has ended."""
    wait_until(lambda: bool(condition()) or process.poll() is not None, process, poll_s=0.0003)


def holds(path: Path, text: str) -> Callable[[], bool]:
    """Whether a file exists and contains `text`."""
    return partial(_holds, path, text)


def _holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text(errors="replace")


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


def half_done(place: Path) -> list[str]:
    """Half-written files, and checkpoints of any run that don't verify."""
    return [*debris(place), *(problem for run in sorted(place.glob("runs/*")) for problem in unsound(run))]


def assert_one_error(result: Result, *expected: str) -> None:
    """A command failed with one error line; it or the hints below have these words."""
    assert result.code == 1, result
    assert "Traceback" not in result.err
    assert "Exception in thread" not in result.err
    assert sum(line.startswith("error: ") for line in result.err.splitlines()) == 1, result.err
    message = result.err.partition("error: ")[2]
    assert [words for words in expected if words not in message] == [], message
