"""Runs ncsnx as people do: in this process, which is fast, or in one of its own."""

import os
import subprocess
import sys
from pathlib import Path

import attrs
from typer.testing import CliRunner

from ncsnx.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]


@attrs.frozen
class Outcome:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


def run(*arguments: str) -> Outcome:
    """The command in this process. Whatever isn't an orderly end is raised."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def run_process(folder: Path, *arguments: str, python_path: tuple[Path, ...] = ()) -> Outcome:
    """`python -m ncsnx …` in `folder`, with more folders to import from."""
    path = os.pathsep.join(map(str, (*python_path, REPOSITORY)))
    ours = {name: value for name, value in os.environ.items() if name == "NCSNX_CACHE" or not name.startswith("NCSNX_")}
    finished = subprocess.run(
        [sys.executable, "-m", "ncsnx", *arguments],
        cwd=folder,
        env={**ours, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Outcome(finished.returncode, finished.stdout, finished.stderr)
