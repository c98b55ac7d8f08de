"""A small experiment, its run, and real processes that work on it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncsnx.config import Experiment
from ncsnx.runs.folder import Run
from tests.runs.kept import SMALL

StartPython = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def experiment() -> Experiment:
    return SMALL


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
