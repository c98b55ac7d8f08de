"""A tiny experiment on the digits, and functions that run ncsnx commands in this or a separate process."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import typer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ncsnx.cli import app
from tests.forked import REPOSITORY, Forked

CPU = ("--threads", "1", "--device", "cpu")
FIELDS = {
    "model.width": "4",
    "batch_size": "16",
    "schedule.levels": "4",
    "sampler.steps_per_level": "1",
    "warmup_steps": "0",
    "snapshots.n": "4",
    "snapshots.every": "1",
    "snapshots.sampler": "none",
    "steps": "12",
    "checkpoint_every": "4",
    "eval_every": "3",
    "log_every": "2",
}
"""Overrides for a training of seconds, with checkpoints and grids at steps 4, 8 and 12."""
PATIENCE_S = 300.0


def overrides(*changes: str) -> list[str]:
    """FIELDS with changes, each FIELD=VALUE; the last value of a field counts."""
    fields = FIELDS | dict(change.split("=", 1) for change in changes)
    if fields.get("snapshots") == "none":
        fields = {path: value for path, value in fields.items() if not path.startswith("snapshots.")}
    return [f"{field}={value}" for field, value in fields.items()]


def training(*changes: str) -> list[str]:
    """The command that trains the tiny experiment with these changes and options, without a page unless with --report.

    The page takes a quarter of the training's time.
    """
    options = [word for word in changes if word.startswith("-")]
    options += [] if "--report" in options else ["--no-report"]
    return ["train", "digits", *overrides(*(word for word in changes if not word.startswith("-"))), *options, *CPU]


@attrs.frozen
class Result:
    """Result of a command."""

    code: int
    out: str
    err: str

    def done(self) -> Self:
        """This result, of a command that did what it was asked to."""
        assert self.code == 0, self.err
        return self


def command(*arguments: str, folder: Path) -> Result:
    """Runs `ncsnx ARGUMENTS` in this process, with `folder` as the working folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = app(list(arguments), standalone_mode=False)
        except typer.BadParameter as refused:
            refused.show()
            code = refused.exit_code
    return Result(code or 0, out.getvalue(), err.getvalue())


def start(
    *arguments: str,
    folder: Path,
    prelude: str = "",
    through: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    own_group: bool = False,
) -> "subprocess.Popen[str]":
    """Starts `ncsnx ARGUMENTS` as a separate process, with its streams on pipes.

    prelude: Python code that runs before. through: a program that runs it, such as nohup.
    """
    program = ["-m", "ncsnx"]
    if prelude:
        begin = "import os, sys\nsys.argv = ['ncsnx', *sys.argv[1:]]"
        program = ["-c", f"{begin}\n{prelude}\nfrom ncsnx.cli import main\nmain()"]
    return subprocess.Popen(
        [*through, sys.executable, *program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=own_group,
    )


def ended(process: "subprocess.Popen[str]") -> Result:
    """Result of a process, which is killed after PATIENCE_S."""
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Result(process.returncode, out, err)


def attempt(*arguments: str, folder: Path, prelude: str = "") -> Result:
    """Runs `ncsnx ARGUMENTS` as a process until it ends by itself, in whatever way."""
    with start(*arguments, folder=folder, prelude=prelude) as process:
        return ended(process)


def wait_until(condition: Callable[[], bool], process: "Forked | subprocess.Popen[str]", poll_s: float = 0.001) -> None:
    """Waits until the condition holds; fails if the process ends first."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end_s
        time.sleep(poll_s)


def wait_for_the_next_second() -> None:
    """Waits; call it before resuming a run whose events are checked.

    TensorBoard reads files in the order of their names, which begin with the second of their creation. A new process
    takes longer than a second to start, but a command in this one may not.
    """
    time.sleep(1.001 - time.time() % 1)


def saved(run: Path, step: int) -> dict[str, bytes]:
    """The files of a checkpoint by name; equal contents have equal bytes."""
    return {path.name: path.read_bytes() for path in (run / "checkpoints" / f"step-{step:08d}").iterdir()}


def steps_of(run: Path) -> list[int]:
    """Steps of a run's checkpoints."""
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-????????"))


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    """Contents of all files in a folder by path, without hidden files."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path): (folder / path).read_bytes() for path in found if not path.name.startswith(".")}


def damage(path: Path) -> None:
    """Flips one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def events(run: Path, name: str) -> list[tuple[int, float]]:
    """A TensorBoard scalar as TensorBoard shows it: (step, value) pairs."""
    shown = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    shown.Reload()
    return [(event.step, event.value) for event in shown.Scalars(name)]
