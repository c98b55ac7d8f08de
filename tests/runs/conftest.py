"""A small experiment, its run, and real processes that work on it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncsnx.config import AnnealedLangevin, Digits, Experiment, Geometric, NCSNv2
from ncsnx.runs.folder import Run

StartPython = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(
        name="small",
        data=Digits(),
        schedule=Geometric(sigma_max=8.0, sigma_min=0.01, levels=10),
        model=NCSNv2(width=8),
        sampler=AnnealedLangevin(step_size=1e-5, steps_per_level=2),
        batch_size=8,
        steps=100,
        seed=3,
    )


@pytest.fixture
def run(tmp_path: Path, experiment: Experiment) -> Run:
    return Run.create(tmp_path / "runs", "small", experiment, {"steps": "small.py:9"}, "# source\n", "f" * 64)


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """Starts `python -c CODE ARGUMENTS` with pipes; whatever still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
