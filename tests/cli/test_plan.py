"""`ncsnx plan` on the built-in experiments, on experiments of one's own and on images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import run
from tests.training.tiny import Result


def plan(*words: str) -> Result:
    return run("plan", *words, "--threads", "1", "--device", "cpu")


def facts(*words: str) -> dict[str, Any]:
    outcome = plan(*words, "--json", "--no-timing").done()
    return dict(json.loads(outcome.out))


def write_pictures(folder: Path, count: int, *, size: int = 12, mode: str = "RGB", seed: int = 0) -> None:
    """Pictures of noise, as PNG."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number:03d}.png")


@pytest.mark.usefixtures("here")
def test_an_experiment_without_its_data_is_planned_by_its_own_sigma() -> None:
    outcome = plan("cifar10", "--json", "--no-timing")
    found = json.loads(outcome.out)
    assert (found["levels"], found["steps_per_level"], found["evaluations"]) == (232, 5, 1161)
    assert found["sigma_max_source"] == "the experiment's own (its data is not here)"
    assert "is the experiment's own\n  " in outcome.err


@pytest.mark.usefixtures("here")
def test_the_plan_is_told_in_lines_with_a_sampler_to_type() -> None:
    outcome = plan("digits", "--no-timing")
    data, sigma, levels, sampler, training, bias = outcome.out.splitlines()
    assert data == "1,498 training images of 1×8×8, 299 held out"
    assert sigma.startswith("σ_1 = 4.801: largest of 1,498 images, between image 172 and image 766; 99.9 %")
    assert levels == "22 geometric levels to σ_L = 0.01, which overlap by 0.567"
    assert training == "training: 2,000 steps of 64 images, width 16"
    assert bias.startswith("sampler=ald with steps_per_level=5 gives Gaussian data 132 %")
    told, _, words = sampler.partition(": ")
    assert told == "published sampler, 111 evaluations per image"
    found = facts("digits", *words.split(), f"schedule.levels={facts('digits')['levels']}")
    assert found["evaluations"] == 111
    assert "a network may memorize so few training images (1,498)" in outcome.err


@pytest.mark.usefixtures("here")
def test_the_overlap_and_the_steps_can_be_chosen() -> None:
    assert facts("cifar10", "--overlap", "0.5")["levels"] < 232
    found = facts("cifar10", "--steps-per-level", "50")
    assert found["steps_per_level"] == 50
    assert found["remaining_variance"] < facts("cifar10")["remaining_variance"]


@pytest.mark.usefixtures("here")
def test_times_are_measured_and_add_up() -> None:
    outcome = plan("digits", "model.width=4", "steps=1000", "--json")
    found = json.loads(outcome.out)
    assert found["seconds_per_image"] == pytest.approx(found["seconds_per_evaluation"] * found["evaluations"])
    assert found["seconds_of_training"] > 1000 * found["seconds_per_step"]  # grids of samples are in it
    # a step has 128 images, each of which takes more than an evaluation; ten times as much and more would be wrong
    assert 0.1 < found["seconds_per_step"] / (128 * found["seconds_per_evaluation"]) < 100
    assert "at 8 px, on cpu" in found["timed"]


def test_a_folder_of_pictures_is_planned_for(here: Path) -> None:
    write_pictures(here / "photos", 30)
    found = facts("photos")
    assert (found["image_size"], found["channels"], found["dimensions"]) == (12, 3, 432)
    pixels = np.stack([np.asarray(Image.open(here / "photos" / name)) for name in found["largest_pair"]])
    distance = np.linalg.norm((pixels[0] / 255.0 - pixels[1] / 255.0).ravel())
    assert distance * (1 - 1e-6) <= found["sigma_max"] <= distance * 1.001
    assert found["images"] < 30  # some are held out
    changed = facts("./photos", "--size", "8", "data.channels=1")
    assert (changed["image_size"], changed["channels"]) == (8, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nowhere",), "there is no file or folder 'nowhere', here or in data, and no experiment is named 'nowhere'"),
        (("digits", "--overlap", "1"), "--overlap must be above 0 and below 0.9973"),
        (("digits", "--size", "16"), "--size goes with your own images"),
        (("digits", "modle.width=3"), "did you mean model.width?"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_cannot_be_is_one_clear_line(words: tuple[str, ...], expected: str) -> None:
    outcome = plan(*words)
    assert outcome.code == 2
    assert expected in outcome.err
    assert outcome.out == ""
