"""A run that Python trained, once for all tests of a process."""

import shutil
from pathlib import Path

import pytest

import ncsnx
from ncsnx.jobs.training_job import TrainedRun
from ncsnx.runs.folder import Run
from tests.training.tiny import overrides

TINY = overrides("snapshots=none", "eval_every=12")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """The result of a training of twelve steps; don't write into its run."""
    folder = tmp_path_factory.mktemp("trained")
    return ncsnx.train("digits", TINY, runs=folder / "runs", device="cpu", threads=1)


@pytest.fixture
def run(trained: TrainedRun, tmp_path: Path) -> Run:
    """A copy of the run, to write into."""
    return Run(Path(shutil.copytree(trained.run.path, tmp_path / "runs" / "digits")))
