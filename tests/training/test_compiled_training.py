"""A compiled training, in processes of their own as users run it."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="compilation needs a C++ compiler"),
]


def train(here: Path, run: str, *words: str) -> str:
    """Output of `ncsnx train digits` with a small network, to stderr."""
    small = ("model.width=4", "batch_size=16", "checkpoint_every=3", "snapshots.n=4", "log_every=1")
    done = subprocess.run(
        [sys.executable, "-m", "ncsnx", "train", "digits", *small, *words, "--run", run, "--threads", "1"],
        cwd=here,
        env={**os.environ, "NCSNX_CACHE": str(here / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def weights(here: Path, run: str) -> str:
    return hashlib.sha256((here / f"runs/{run}/checkpoints/step-00000006/model.safetensors").read_bytes()).hexdigest()


def test_a_resumed_compiled_training_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    said = train(tmp_path, "whole", "steps=6", "--compile")
    assert "compiled; its gradient differs from the eager one by" in said
    train(tmp_path, "parts", "steps=3", "--compile")
    (grid,) = (tmp_path / "runs/parts/snapshots").iterdir()
    grid.unlink()  # as if it had been killed while it sampled
    assert "compiling, as before" in train(tmp_path, "parts", "steps=6")
    assert weights(tmp_path, "parts") == weights(tmp_path, "whole")
    train(tmp_path, "eager", "steps=6")
    assert weights(tmp_path, "eager") != weights(tmp_path, "whole")
