"""The installed package works outside the repository and contains the built-in experiments."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

EXPERIMENTS = {
    "bedroom128", "celeba64", "church96", "cifar10", "cifar10_edm", "cifar10_edm_cond", "cifar10_ncsn", "digits",
    "digits_edm", "fashion_mnist", "ffhq256", "mnist", "phantom64x48", "photographs", "tower128",
}  # fmt: skip


def test_the_built_in_experiments_are_there_in_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ncsnx", "list", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    rows = json.loads(done.stdout)["experiments"]
    assert {row["name"] for row in rows} == EXPERIMENTS
    assert {row["where"] for row in rows} == {"built in"}
    assert all(row["error"] is None for row in rows)


def test_the_wheel_carries_experiments_and_types() -> None:
    try:
        files = {str(path) for path in metadata.files("ncsnx") or ()}
    except metadata.PackageNotFoundError:
        pytest.skip("ncsnx is not installed, only importable")
    if not any(path.endswith("ncsnx/config/experiment.py") for path in files):
        pytest.skip("ncsnx is installed as a link to the sources")

    assert {f"ncsnx/_experiments/{name}.py" for name in EXPERIMENTS} <= files
    assert "ncsnx/py.typed" in files


def test_what_is_installed_trains_and_samples_outside_the_repository(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def ncsnx(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "ncsnx", *arguments, "--threads", "1"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    trained = ncsnx("train", "digits", "steps=2", "model.width=4", "batch_size=4", "snapshots=none")
    if "No module named ncsnx" in trained.stderr:
        pytest.skip("ncsnx is not installed, only importable")
    sampled = ncsnx("sample", "digits", "--n", "2", "sampler.steps_per_level=1", "--json")

    assert trained.returncode == 0, trained.stderr
    assert sampled.returncode == 0, sampled.stderr
    assert len(list((Path(tmp_path) / json.loads(sampled.stdout)["folder"] / "images").iterdir())) == 2
