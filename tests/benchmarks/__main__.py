"""`python -m tests.benchmarks`: start-up, ledgers, console, and dropout.

Each line has the times of two alternating actions and their ratio, first / second.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import attrs
import torch

from ncsnx.config.discovery import resolve
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.training import TrainingView
from ncsnx.metrics.metric import all_metrics
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from ncsnx.runs.segments import versions
from ncsnx.runtime import Runtime
from ncsnx.storage.json_lines import read_records
from ncsnx.storage.process import this_process
from tests.benchmarks.executions import executions
from tests.benchmarks.pairs import Pair, alternate
from tests.runs.kept import SMALL, fid, subject
from tests.spaces import space_of


def report(name: str, pair: Pair) -> None:
    print(f"{name:<58} {pair}", flush=True)


def start_up() -> None:
    """`ncsnx --help` and `ncsnx list` against the bare import of typer, as processes."""

    # As installed: without compiled files each start would compile ncsnx again, but not typer.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(*command: str) -> None:
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env=environment)

    help_page = alternate(lambda: run("-m", "ncsnx", "--help"), lambda: run("-c", "import typer"), rounds=9)
    report("ncsnx --help / import typer", help_page)
    listing = alternate(lambda: run("-m", "ncsnx", "list"), lambda: run("-c", "import typer"), rounds=9)
    report("ncsnx list / import typer", listing)


def fill(run: Run) -> None:
    """Writes a ledger as of 200 scores of all metrics, 200 losses at 232 levels and 366 trials of samplers."""
    columns = tuple(column for metric in all_metrics() for column in metric.quantities)
    numbers = {key: 1.2345678901234567 for column in columns for key in column.keys}
    numbers |= {"evaluations": 61, "metrics": {metric.tag: metric.version for metric in all_metrics()}}
    made = {
        **this_process(),
        "finished": "2030",
        "runtime": Runtime.choose(device="cpu").facts(),
        "versions": versions(),
    }
    distance = attrs.evolve(fid(1000), columns=columns)
    trials, plain = attrs.evolve(distance, measure="compare"), subject(run, 10, "a" * 64)
    found = [(distance, attrs.evolve(plain, seed=seed), numbers) for seed in range(200)]
    for seed in range(200):
        losses = attrs.evolve(distance, measure="loss", facts={"noise_seed": seed})
        found.append((losses, plain, {"score": 1.5, "levels": [1.2345678901234567] * 232}))
    found += [(trials, attrs.evolve(plain, seed=seed), {"score": 1.5, "broken": 0.0}) for seed in range(366)]
    ledger = Ledger(run)
    with patch.object(os, "fsync"):  # a thousand waits for a disk are no subject of this
        for protocol, one, values in found:
            ledger.add(protocol, one, values, made)


def ledgers() -> None:
    """Reading a ledger of 200 sweeps, in ms; and `ncsnx list` with 50 such runs against the same without ledgers."""
    with tempfile.TemporaryDirectory() as folder:
        space = space_of(SMALL.data)
        runs = [Run.create(Path(folder), f"run-{place}", SMALL, {}, None, "f" * 64, space) for place in range(50)]
        fill(runs[0])
        for run in runs[1:]:
            shutil.copy(runs[0].ledger_path, run.ledger_path)

        def listing(name: str) -> None:
            command = [sys.executable, "-m", "ncsnx", "list", "--runs", name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        without = Path(shutil.copytree(folder, Path(folder).with_suffix(".without")))
        for path in without.glob("*/measurements.jsonl"):
            path.unlink()
        report(
            "reading a ledger / its JSON alone",
            alternate(partial(Ledger.read, runs[0]), partial(read_records, runs[0].ledger_path), rounds=15),
        )
        report(
            "ncsnx list with / without ledgers",
            alternate(partial(listing, folder), partial(listing, str(without)), rounds=5),
        )
        shutil.rmtree(without)


def console() -> None:
    """The console's work of a training step of the digits, as a share of the step."""
    experiment = resolve("digits").experiment
    _, step = executions(experiment, Runtime.choose(device="cpu"), compiles=False, against=None)["default"]
    with tempfile.TemporaryDirectory() as folder:
        # quiet, so that lines go to the log only: the cost of a terminal isn't measured
        messages = Messages(Verbosity.QUIET, Path(folder) / "log.txt")
        view = TrainingView(messages, total_steps=10**9, start_step=0, batch_size=128)
        numbers = itertools.count(1)

        def watch() -> None:
            number = next(numbers)
            view.step(number, 128)
            view.logged(number, 1.0)  # every step here, every tenth step in training

        report("console / step", alternate(watch, step, rounds=15))


def dropout() -> None:
    """A training step of the digits' U-Net with masks of dropout against one without."""
    runtime = Runtime.choose(device="cpu")
    with_masks, without = (
        executions(resolve("digits_edm", [f"model.dropout={chance}"]).experiment, runtime, compiles=False, against=None)
        for chance in (0.13, 0.0)
    )
    report("step with dropout / without", alternate(with_masks["default"][1], without["default"][1], rounds=15))


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    start_up()
    ledgers()
    console()
    dropout()
