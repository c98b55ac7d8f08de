"""The benchmark scripts run."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_executions_are_timed_beside_the_published_code() -> None:
    checkout = Path(__file__).parent / "benchmarks" / "checkout"
    words = ("digits", "model.width=4", "--batch-size", "2", "--rounds", "1", "--threads", "1", "--device", "cpu")
    command = [sys.executable, "-m", "tests.benchmarks.executions", *words, "--against", str(checkout)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert rows == ["published", "plain", "default", "checkpointing", "bf16"]
