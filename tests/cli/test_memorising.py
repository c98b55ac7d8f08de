"""Two models that were trained alike: one on 50 digits, until it remembers them, is caught; one on all digits isn't."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncsnx.config import Digits
from ncsnx.data.readers.digits import read_digits
from tests.training.tiny import CPU, command

IMAGES, HELD_OUT = 416, 0.85
"""Share of the digits that is held out by the hashes of their places: all but 50."""
TRAINING = (
    *("model.width=16", "batch_size=32", "optimizer.lr=1e-3", "warmup_steps=50", "ema.rate=0.95"),
    *("schedule.levels=6", "schedule.sigma_max=2", "schedule.sigma_min=0.1"),
    *("steps=1000", "checkpoint_every=1000", "eval_every=1000", "snapshots=none"),
)
"""A narrow network and few noise levels: what remembers soon."""
SEARCH = ("sampler=cas", "sampler.steps=60", "--n", "64", "--k", "3", "features.steps=100", "features.width=8")


def judged(folder: Path, run: str, *data: str) -> dict[str, Any]:
    """Results of `ncsnx neighbors` for a model that is trained now."""
    result = command("train", "digits", *data, *TRAINING, f"--run={run}", *CPU, folder=folder)
    assert result.code == 0, result.err
    result = command("neighbors", run, *SEARCH, "--features", "classifier", "--json", *CPU, folder=folder)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memorising")


@pytest.mark.slow
def test_a_model_that_was_trained_to_remember_50_digits_is_caught(folder: Path) -> None:
    digits = read_digits(Digits(), Path()).train.read(torch.arange(IMAGES))
    np.savez(folder / "few.npz", images=digits.pixels.numpy(), labels=digits.labels.numpy())
    data = ("data=arrays", "data.path=few.npz", "data.array=images", "data.image_size=8", "data.high=16")
    found = judged(folder, "few", *data, f"data.held_out={HELD_OUT}")
    assert found["protocol"]["training"]["images"] == 50
    assert found["verdict"]["kind"] == "memorising"
    for space in found["spaces"].values():
        assert space["distance"]["nearer"]["value"] > 0.8
        assert space["relative"]["nearer"]["low"] > 0.5


@pytest.mark.slow
def test_a_model_that_was_trained_alike_on_all_digits_is_not(folder: Path) -> None:
    found = judged(folder, "all")
    assert found["protocol"]["training"]["images"] == 1_498
    assert found["verdict"]["kind"] == "no sign"
    for space in found["spaces"].values():
        assert space["distance"]["nearer"]["value"] < 0.6
