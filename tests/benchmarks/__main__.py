"""`python -m tests.benchmarks`: start-up, console, and dropout.

Each line has the times of two alternating actions and their ratio, first / second.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ncsnx.config.discovery import resolve
from ncsnx.console.messages import Messages, Verbosity
from ncsnx.console.training import TrainingView
from ncsnx.runtime import Runtime
from tests.benchmarks.executions import executions
from tests.benchmarks.pairs import Pair, alternate


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


def console() -> None:
    """The console's work of a training step of the digits, as a share of the step."""
    experiment = resolve("digits").experiment
    _, step = executions(experiment, Runtime.choose(device="cpu"), compiles=False, against=None)["default"]
    with tempfile.TemporaryDirectory() as folder:
        # quiet, so that lines go to the log only: the cost of a terminal isn't measured
        messages = Messages(Verbosity.QUIET, Path(folder) / "log.txt")
        view = TrainingView(messages, total_steps=10**9, start_step=0, batch_size=128)

        def watch() -> None:
            view.step(1, 128)
            view.logged(1, 1.0)  # every step here, every tenth step in training

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
    console()
    dropout()
