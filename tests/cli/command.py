"""Runs ncsnx as people do: in this process, which is fast, or in one of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from ncsnx.cli import app
from tests.forked import REPOSITORY
from tests.training.tiny import Result


def run(*arguments: str) -> Result:
    """The command in this process. Whatever isn't an orderly end is raised."""
    ended = CliRunner().invoke(app, list(arguments))
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Result(ended.exit_code, ended.stdout, ended.stderr)


def rows(text: str) -> dict[str, str]:
    """The lines of a table of two columns."""
    return dict(re.split(" {2,}", line, maxsplit=1) for line in text.splitlines())


def run_process(folder: Path, *arguments: str, python_path: tuple[Path, ...] = ()) -> Result:
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
    return Result(finished.returncode, finished.stdout, finished.stderr)
