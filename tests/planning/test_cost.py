"""The cost of a training, compared with what a training does."""

from pathlib import Path

import attrs
import pytest

from ncsnx.config.discovery import resolve
from ncsnx.planning.timing import Timing, grids, timed_size, training_seconds
from tests.training.tiny import command, overrides, training


def test_as_many_grids_are_counted_as_a_training_draws(tmp_path: Path) -> None:
    words = ("steps=12", "checkpoint_every=5", "snapshots.every=2", "snapshots.n=1")
    assert command(*training(*words), folder=tmp_path).code == 0
    drawn = list((tmp_path / "runs/digits/snapshots").iterdir())
    assert grids(resolve("digits", overrides(*words)).experiment) == len(drawn)
    for words, count in ((("steps=12", "checkpoint_every=5"), 3), (("steps=3", "checkpoint_every=5"), 1)):
        assert grids(resolve("digits", overrides(*words)).experiment) == count


def test_a_training_takes_its_steps_and_the_evaluations_of_its_grids() -> None:
    words = ("steps=1000", "checkpoint_every=300", "batch_size=16", "snapshots.n=4", "snapshots.every=1")
    experiment = resolve("digits", overrides(*words, "snapshots.sampler=cas", "snapshots.sampler.steps=31")).experiment
    timing = Timing(seconds_per_evaluation=1.0, seconds_per_training_image=3.0, seconds_per_update=2.0, timed="")
    steps = 1000 * (16 * 3 + 2)
    assert training_seconds(experiment, timing) == steps + 4 * 4 * 31  # four grids of four images, by 31 evaluations
    assert training_seconds(attrs.evolve(experiment, snapshots=None), timing) == steps


@pytest.mark.parametrize(
    ("size", "model", "timed"),
    [
        ("8", (), (8, 8)),
        ("128", (), (64, 64)),
        ("224,128", (), (56, 32)),
        ("160,96", ("model=unet", "model.multipliers=1,1,1,1,1,1", "model.attention="), (160, 96)),  # halved five times
    ],
)
def test_large_images_are_timed_at_a_quick_size(size: str, model: tuple[str, ...], timed: tuple[int, int]) -> None:
    changes = overrides("data=arrays", "data.path=x.npy", f"data.image_size={size}", *model)
    assert timed_size(resolve("digits", changes).experiment) == timed
