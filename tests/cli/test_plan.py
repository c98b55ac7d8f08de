"""`ncsnx plan` on the built-in experiments, on experiments of one's own and on images."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tests.cli.command import Outcome, run
from tests.config.examples import write_file

# L, T and ε as published (Song & Ermon 2020, appendix B)
PUBLISHED = {
    "cifar10": (232, 5, 6.2e-6),
    "celeba64": (500, 5, 3.3e-6),
    "church96": (788, 4, None),
    "bedroom128": (1086, 3, 1.8e-6),
    "ffhq256": (2311, 3, 9e-7),
}


def plan(*words: str) -> Outcome:
    return run("plan", *words, "--threads", "1", "--device", "cpu")


def facts(*words: str) -> dict[str, Any]:
    outcome = plan(*words, "--json", "--no-timing")
    assert outcome.code == 0, outcome.err
    return dict(json.loads(outcome.out))


def write_pictures(folder: Path, count: int, *, size: int = 12, mode: str = "RGB", seed: int = 0) -> None:
    """Pictures of noise, as PNG."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number:03d}.png")


@pytest.mark.usefixtures("here")
def test_the_bias_of_the_sampler_is_told() -> None:
    outcome = plan("digits", "--no-timing")
    assert outcome.code == 0, outcome.err
    assert "sampler=ald with steps_per_level=5 gives Gaussian data 132 %" in outcome.err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_plans_come_out_of_the_published_sigma(name: str) -> None:
    levels, steps, step_size = PUBLISHED[name]
    outcome = plan(name, "--json", "--no-timing")
    found = json.loads(outcome.out)
    assert (found["levels"], found["steps_per_level"]) == (levels, steps)
    assert found["evaluations"] == levels * steps + 1
    if step_size is not None:
        assert found["step_size"] == pytest.approx(step_size, rel=0.03)
        assert found["differences"] == []
    assert found["sigma_max_source"] == "the experiment (its data is not here)"
    assert "is the experiment's own\n  " in outcome.err
    assert found["snr"] == pytest.approx(math.sqrt(found["step_size"] / 2) / 0.01, rel=1e-12)


@pytest.mark.usefixtures("here")
def test_the_published_step_size_for_church_is_said_not_to_be_the_optimum() -> None:
    (difference,) = facts("church96")["differences"]
    assert difference["field"] == "step_size"
    assert difference["own"] == 4.9e-6
    assert difference["planned"] == pytest.approx(2.31e-6, rel=2e-3)
    assert difference["meaning"].startswith("technique 4 gives 2.31e-06")
    assert "technique 4 gives" in plan("church96", "--no-timing").out


@pytest.mark.usefixtures("here")
def test_the_digits_are_measured_and_compared() -> None:
    found = facts("digits")
    images = torch.tensor(load_digits().images / 16, dtype=torch.float64).flatten(1)
    train = images[torch.arange(len(images)) % 6 != 5]
    distances = torch.pdist(train)
    assert found["sigma_max"] == pytest.approx(float(distances.max()), rel=1e-6)
    assert found["sigma_max_source"] == f"largest of {len(train):,} images"
    assert found["quantile_999"] == pytest.approx(_quantile(distances), rel=2e-4)
    places = [int(name.removeprefix("image ")) for name in found["largest_pair"]]
    assert float((images[places[0]] - images[places[1]]).norm()) == pytest.approx(found["sigma_max"], rel=1e-6)
    assert {difference["field"] for difference in found["differences"]} == {"sigma_max", "levels", "step_size"}


def _quantile(distances: torch.Tensor) -> float:
    return float(distances.sort().values[math.ceil(0.999 * len(distances)) - 1])


@pytest.mark.usefixtures("here")
def test_a_table_shows_plan_and_experiment_side_by_side() -> None:
    out = plan("digits", "--no-timing").out
    assert [line.split()[1:3] for line in out.splitlines() if line.startswith("L ")] == [["22", "24"]]
    assert "\nlevels: 24, planned 22: its levels overlap by" in out
    warning = plan("digits", "--no-timing").err
    assert "a network may memorise so few training images (1,498)" in warning
    assert re.search("compare samples with their nearest training images: +ncsnx neighbors RUN\n", warning)


@pytest.mark.usefixtures("here")
def test_overrides_count_as_they_do_in_training() -> None:
    found = facts("digits", "data.transform=rescaled", "schedule.sigma_min=0.02")
    assert found["sigma_max"] == pytest.approx(2 * facts("digits")["sigma_max"], rel=1e-6)
    assert found["sigma_min"] == 0.02


@pytest.mark.usefixtures("here")
def test_images_are_measured_as_dequantization_and_transform_leave_them() -> None:
    plain, drawn = (facts("digits", "data.transform=logit", f"data.dequantization={d}") for d in ("none", "uniform"))
    assert (round(plain["sigma_max"], 1), plain["levels"]) == (123.6, 33)
    # Thirty seeds gave 36.7 to 40.5.
    assert drawn["sigma_max"] == pytest.approx(39, abs=4)
    assert drawn["levels"] == 29
    assert drawn["sigma_max_source"] == "largest of 1,498 dequantized images, seed 0"


@pytest.mark.usefixtures("here")
def test_the_overlap_and_the_steps_can_be_chosen() -> None:
    assert facts("cifar10", "--overlap", "0.5")["levels"] < 232
    found = facts("cifar10", "--steps-per-level", "50")
    assert found["steps_per_level"] == 50
    assert found["remaining_variance"] < facts("cifar10")["remaining_variance"]


@pytest.mark.usefixtures("here")
def test_what_differs_is_said_with_its_meaning() -> None:
    words = ("schedule=uniform", "schedule.levels=10", "sampler.steps_per_level=2", "schedule.sigma_max=2.0")
    meanings = {row["field"]: row["meaning"] for row in facts("digits", *words)["differences"]}
    assert set(meanings) == {"schedule", "sigma_max", "levels", "steps_per_level"}
    assert "does not bridge" in meanings["sigma_max"]
    assert "constant ratio" in meanings["schedule"]
    narrow = {row["field"]: row["meaning"] for row in facts("digits", "schedule.levels=10")["differences"]}
    assert "samples may suffer" in narrow["levels"]


@pytest.mark.usefixtures("here")
def test_times_are_measured_and_add_up() -> None:
    outcome = plan("digits", "model.width=4", "steps=1000", "--json")
    found = json.loads(outcome.out)
    assert found["seconds_per_image"] == pytest.approx(found["seconds_per_evaluation"] * found["evaluations"])
    assert found["seconds_per_1000_images"] == pytest.approx(1000 * found["seconds_per_image"])
    assert found["seconds_of_training"] > 1000 * found["seconds_per_step"]  # grids of samples are in it
    assert "and grids of samples" not in plan("digits", "model.width=4", "steps=1000", "snapshots=none").out
    # a step has 128 images, each of which takes more than an evaluation; ten times as much and more would be wrong
    assert 0.1 < found["seconds_per_step"] / (128 * found["seconds_per_evaluation"]) < 100
    assert "at 8 px, on cpu" in found["timed"]


def test_the_levels_of_a_network_that_is_trained_at_every_sigma_are_not_judged() -> None:
    assert "levels" not in {row["field"] for row in facts("digits_edm", "schedule.levels=3")["differences"]}


def test_a_folder_of_pictures_is_planned_for(here: Path) -> None:
    write_pictures(here / "photos", 30)
    found = facts("photos")
    assert (found["image_size"], found["channels"], found["dimensions"]) == (12, 3, 432)
    pixels = np.stack([np.asarray(Image.open(here / "photos" / name)) for name in found["largest_pair"]])
    distance = np.linalg.norm((pixels[0] / 255.0 - pixels[1] / 255.0).ravel())
    assert found["sigma_max"] == pytest.approx(distance, rel=1e-6)
    assert found["differences"] == []
    assert found["images"] < 30  # some are held out
    assert facts("./photos", "--size", "8")["image_size"] == 8
    assert facts("photos", "data.channels=1")["channels"] == 1


def test_a_file_of_arrays_is_planned_for(here: Path) -> None:
    np.save(here / "x.npy", np.random.default_rng(0).random((30, 8, 8, 5), dtype=np.float32))
    found = facts("x.npy")
    assert (found["data"], found["image_size"], found["channels"]) == ("arrays", 8, 5)


def test_an_experiment_is_meant_rather_than_a_folder_of_its_name(here: Path) -> None:
    write_pictures(here / "digits", 4)
    assert facts("digits")["data"] == "digits"
    assert facts("./digits")["data"] == "images"


def test_an_experiment_file_is_taken_as_train_takes_it(here: Path) -> None:
    write_file(here / "mine.py")
    assert facts("mine.py")["experiment"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nowhere",), "there is no file or folder 'nowhere', here or in data, and no experiment is named 'nowhere'"),
        (("./nowhere",), "./nowhere does not exist, here or in data"),
        (("digits", "--overlap", "1"), "--overlap must be above 0 and below 0.9973"),
        (("digits", "--overlap", "nan"), "--overlap must be above 0 and below 0.9973"),
        (("digits", "--seed", "-1"), "--seed must be between 0 and 4,294,967,295, not -1"),
        (("digits", "--on-error", "skip"), "--on-error goes with your own images"),
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


def test_broken_pictures_are_all_named_or_skipped(here: Path) -> None:
    write_pictures(here / "photos", 20)
    (here / "photos" / "bad.png").write_bytes(b"no picture")
    (here / "photos" / "empty.jpg").write_bytes(b"")
    outcome = plan("photos", "--no-timing")
    assert outcome.code == 1
    assert "bad.png" in outcome.err
    assert "empty.jpg" in outcome.err
    outcome = plan("photos", "--no-timing", "--on-error", "skip")
    assert outcome.code == 0
    assert "2 of 22 pictures cannot be used" in outcome.err
