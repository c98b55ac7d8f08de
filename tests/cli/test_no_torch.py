"""Looking at experiments never imports torch: it is there at once, also where torch is broken."""

import subprocess
import sys
from pathlib import Path

import pytest

from ncsnx.runs.folder import Run
from tests.cli.command import REPOSITORY, run_process
from tests.config.examples import minimal, write_file


@pytest.fixture
def without_torch(tmp_path: Path) -> Path:
    """A folder to import from, in which torch and what comes with it end the process."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    for module in ("torch", "torchvision", "torchdiffeq", "sklearn", "matplotlib"):
        (folder / f"{module}.py").write_text(f"raise SystemExit('{module} was imported')\n")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["sample", "--help"],
        ["fid", "--help"],
        ["loss", "--help"],
        ["likelihood", "--help"],
        ["compare", "--help"],
        ["neighbors", "--help"],
        ["reference", "--help"],
        ["export", "--help"],
        ["doctor", "--help"],
        ["plan", "--help"],
        ["import", "--help"],
        ["new", "--help"],
        ["data", "--help"],
        ["list"],
        ["list", "--json"],
        ["show", "digits", "--origins"],
        ["show", "own", "optimizer=sgd", "--json"],
        ["show", "runs/first"],
        ["doctor", "first", "--json", "--quiet"],
        ["diff", "own", "runs/first"],
        ["diff", "cifar10", "cifar10_ncsn", "--json"],
    ],
    ids=" ".join,
)
def test_a_command_that_only_looks_imports_no_torch(arguments: list[str], here: Path, without_torch: Path) -> None:
    write_file(here / "experiments" / "own.py")
    Run.create(here / "runs", "first", minimal(), {}, None, "f" * 64)
    outcome = run_process(here, *arguments, python_path=(without_torch,))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out


def test_the_language_and_the_package_import_no_torch(without_torch: Path) -> None:
    code = """
import sys, ncsnx, ncsnx.config, ncsnx.noise.levels, ncsnx.cli, ncsnx.errors
from ncsnx.config.discovery import discover
assert len([r for source in discover() for r in source.file.registered]) == 8
assert ncsnx.Experiment and ncsnx.register and ncsnx.__version__
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=without_torch,
        env={"PYTHONPATH": f"{without_torch}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
