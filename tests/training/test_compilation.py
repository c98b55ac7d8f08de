"""Compiled trainings: what is refused, the check of one gradient, and a resumed training in processes of its own."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, fx

from ncsnx import runtime
from ncsnx.config import NCSN
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.runtime import Runtime
from ncsnx.storage.json_lines import read_records
from ncsnx.training.training_state import TrainingState
from ncsnx.training.training_step import require_equal_gradient
from tests.golden_networks import small_experiment
from tests.spaces import state_of

CPU = Runtime(device=torch.device("cpu"), threads=2)


def test_compilation_is_refused_without_a_compiler_and_with_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="checkpointing and compile exclude each other"):
        attrs.evolve(CPU, checkpointing=True).compiled()
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(UsageError, match=r"compile needs a C\+\+ compiler \(g\+\+, .*\), which this machine lacks"):
        Runtime.choose(device="cpu", compile=True)
    on_cuda = attrs.evolve(CPU, device=torch.device("cuda"))
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="compile needs the package triton and a C compiler"):
        on_cuda.compiled()
    monkeypatch.setattr(runtime, "find_spec", lambda name: name)
    monkeypatch.setenv("CC", "/no/such/compiler")
    with pytest.raises(UsageError, match=r"a C compiler \(gcc or clang, or the program that CC names\)"):
        on_cuda.compiled()
    monkeypatch.setenv("CC", sys.executable)
    assert on_cuda.compiled().compile


def state_compiled_by(backend: Callable[..., Any]) -> TrainingState:
    """A state whose network changes its buffers at every evaluation (power iterations)."""
    experiment = attrs.evolve(small_experiment(NCSN(width=4, spectral_norm=True)), ema=None)
    state = state_of(experiment, Runtime(device=torch.device("cpu"), threads=1))
    state.network.compile(backend=backend)
    return state


def loss(state: TrainingState) -> Callable[[], Tensor]:
    x = torch.rand(2, state.network.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return lambda: state.network.scaled_score(x, state.network.sigmas[[0, 9]]).square().sum()


def doubled(graph: fx.GraphModule, inputs: object) -> Callable[..., Any]:
    """The right values with twice the gradient."""

    def run(*arguments: Any) -> Any:
        return [2 * out - out.detach() if out.requires_grad else out for out in graph.forward(*arguments)]

    return run


@pytest.mark.slow
def test_a_wrong_gradient_is_refused_before_anything_is_trained() -> None:
    state = state_compiled_by(doubled)

    told = "the compiled gradient differs from the eager one by 1 of its norm"
    with pytest.raises(NcsnxError, match=re.escape(told)):
        require_equal_gradient(state, loss(state))


def train(here: Path, run: str, *words: str) -> str:
    """Output of `ncsnx train digits` with a small network, to stderr."""
    small = ["model.width=4", "batch_size=16", "checkpoint_every=3", "log_every=1"]
    small += [] if "snapshots=none" in words else ["snapshots.n=4"]
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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compilation needs a C++ compiler")
def test_a_resumed_compiled_training_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    said = train(tmp_path, "whole", "steps=6", "--compile")
    assert "compiled; its gradient differs from the eager one by" in said
    train(tmp_path, "parts", "steps=3", "--compile")
    (grid,) = (tmp_path / "runs/parts/snapshots").iterdir()
    grid.unlink()  # as if it had been killed while it sampled
    assert "bit-identity" not in train(tmp_path, "parts", "steps=6", "--compile")
    assert weights(tmp_path, "parts") == weights(tmp_path, "whole")
    train(tmp_path, "eager", "steps=6")
    assert weights(tmp_path, "eager") != weights(tmp_path, "whole")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compilation needs a C++ compiler")
def test_noisy_images_and_consistency_train_as_well_compiled_as_eager(tmp_path: Path) -> None:
    """Sums are rounded in another order; Adam amplifies it where a gradient is nearly 0."""
    train(tmp_path, "start", "steps=3")
    for name, words in {
        "noisy": ("data.noise=0.05", "schedule.sigma_min=0.05", "snapshots=none"),
        "tuned": ("loss=consistency", "loss.halve_every=1", "--from", "start", "snapshots=none"),
    }.items():
        said = train(tmp_path, f"{name}-compiled", "steps=3", "--compile", *words)
        assert "compiled; its gradient differs from the eager one by" in said
        train(tmp_path, f"{name}-eager", "steps=3", *words)
        found, expected = (losses(tmp_path / "runs" / f"{name}-{kind}") for kind in ("compiled", "eager"))
        assert found == pytest.approx(expected, rel=1e-3)


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in read_records(run / "metrics.jsonl") if "loss" in record]
