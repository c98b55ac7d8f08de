"""Truncated files and flipped bits in every file of a checkpoint."""

import random
import shutil
from pathlib import Path

import pytest

from ncsnx.runs import checkpoint
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.names import step_name
from ncsnx.sampling.loading import load
from tests.chaos.trials import finish
from tests.training.tiny import training

pytestmark = pytest.mark.chaos

TRAIN = training("steps=9", "checkpoint_every=3", "snapshots=none")
LAST, BEFORE = 9, 6
FOLDER = Path("runs/digits/checkpoints") / step_name(LAST)
TRUNCATIONS, FLIPS = 40, 200
UNREAD = ("model.safetensors", "optimizer.safetensors")
"""Files that drawing doesn't read, since the run has an EMA."""
each_file = pytest.mark.parametrize(
    "name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    finish(*TRAIN, folder=folder)
    return folder


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


@each_file
def test_damage_anywhere_is_noticed_before_anything_is_used(
    name: str, chance: random.Random, trained: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(trained, tmp_path / "work"))
    run, path = Run(place / "runs/digits"), place / FOLDER / name
    content = path.read_bytes()
    for damage in [cut] * TRUNCATIONS + [flipped] * FLIPS:
        path.write_bytes(damage(content, chance))
        with pytest.raises(UnsoundError):
            checkpoint.read_checkpoint(path.parent)
        for ckpt in (LAST, "latest") if name not in UNREAD else ():
            with pytest.raises(UnsoundError):
                load(run, ckpt)
