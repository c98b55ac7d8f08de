"""The package as it is installed: it works outside the repository and brings its experiments along."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

EXPERIMENTS = {
    "bedroom128", "celeba64", "church96", "cifar10", "cifar10_ncsn", "digits", "ffhq256", "tower128"
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
