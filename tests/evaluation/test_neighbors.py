"""The memorising test on digits: it detects all or some copies, and doesn't suspect smooth or new images."""

from itertools import groupby
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ncsnx import config
from ncsnx.data.readers.digits import read_digits
from ncsnx.evaluation.memorizing import NEIGHBORHOOD, compared, is_nearer, relative_distances, verdict
from ncsnx.evaluation.nearest_images import feature_space, nearest, pixel_space
from ncsnx.evaluation.neighbor_pictures import draw_grid, plot_distances
from ncsnx.features.feature_network import Extracted
from ncsnx.images import to_uint8
from ncsnx.runs.result_records import SpaceRecord, Verdict
from tests.evaluation.test_nearest import Training
from tests.features.scripted import PooledFeatures

SAMPLES = 64


class RandomFeatures:
    """A random layer over all pixels, which changes the order of distances."""

    name, dimensions, has_logits = "random features", 64, False

    def __init__(self) -> None:
        self.facts = {"type": "random"}
        self._network = PooledFeatures(channels=1, features=self.dimensions)

    def __call__(self, images: Tensor) -> Extracted:
        return Extracted(torch.relu(self._network(images.float() / 255)), None)


@attrs.frozen(eq=False)
class Digits:
    """8-bit pictures."""

    train: Tensor
    held_out: Tensor
    new: Tensor
    """Digits that are neither training nor held-out images, as a perfect model would draw."""


@pytest.fixture(scope="module")
def digits() -> Digits:
    splits = read_digits(config.Digits(), Path())
    train = to_uint8(splits.train.read(torch.arange(1_400)).pixels.float() / 16)
    others = splits.held_out.read(torch.arange(299).roll(7)).pixels
    others = to_uint8(others.float() / 16)[torch.randperm(299, generator=torch.Generator().manual_seed(2))]
    return Digits(train, others[SAMPLES:], others[:SAMPLES])


def judged(samples: Tensor, digits: Digits) -> tuple[Verdict, dict[str, SpaceRecord]]:
    spaces = [pixel_space(), feature_space(RandomFeatures())]
    images = torch.cat([samples, digits.held_out])
    found = {}
    for space, one in zip(spaces, nearest(images, Training(digits.train), spaces, NEIGHBORHOOD), strict=True):
        mine, real = one.distances[: len(samples)], one.distances[len(samples) :]
        relative = compared(relative_distances(mine), relative_distances(real))
        found[space.name] = SpaceRecord(distance=compared(mine[:, 0], real[:, 0]), relative=relative)
    return verdict(found, len(samples), len(digits.held_out)), found


def noisy(images: Tensor, sigma: float) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return to_uint8(images.float() / 255 + sigma * torch.randn(images.shape, generator=generator))


def test_new_digits_are_no_copies(digits: Digits) -> None:
    found, _ = judged(digits.new, digits)
    assert found.kind == "no sign"


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.05])
def test_copies_are_caught_with_a_little_noise_too(digits: Digits, sigma: float) -> None:
    found, _ = judged(noisy(digits.train[:SAMPLES], sigma), digits)
    assert found.kind == "memorising"
    assert "in pixels and in features" in found.words


def test_a_quarter_of_copies_is_caught_with_few_held_out_images(digits: Digits) -> None:
    mixed = torch.cat([digits.train[: SAMPLES // 4], digits.new[SAMPLES // 4 :]])
    assert judged(mixed, attrs.evolve(digits, held_out=digits.held_out[:50]))[0].kind == "memorising"


def test_smooth_digits_are_near_to_many_and_no_copies(digits: Digits) -> None:
    """Means of similar training images, as from a model that blurs, are nearer than new digits are."""
    (found,) = nearest(digits.new, Training(digits.train), [pixel_space()], 20)
    for count in (10, 20):
        smooth = to_uint8(digits.train[found.indices[:, :count]].float().mean(dim=1) / 255)
        kind, spaces = judged(smooth, digits)
        assert is_nearer(spaces["pixels"].distance)
        assert not is_nearer(spaces["pixels"].relative)
        assert kind.kind == "nearer"


def test_noise_is_far_from_everything(digits: Digits) -> None:
    noise = torch.randint(0, 256, digits.new.shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    found, spaces = judged(noise, digits)
    assert found.kind == "no sign"
    assert spaces["pixels"].distance.nearer < 0.05


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_grid_has_a_cell_for_each_picture(tmp_path: Path, channels: int) -> None:
    left = torch.zeros((channels, 8, 8), dtype=torch.uint8)
    left[:, :, :4] = 255
    near = [(left, "0"), (left, "1e+04 ↔")]
    draw_grid(tmp_path / "grid.png", [{"sample": [(left, "7")], "pixels": near, "features": near}] * 2)
    with Image.open(tmp_path / "grid.png") as grid:
        cells = np.asarray(grid.convert("L"))[20:44]
    dark = (cells < 128).all(axis=0)
    halves = [is_dark for is_dark, _ in groupby(dark.tolist()) if is_dark]
    assert len(halves) >= 5, "half of each of five images"


def test_a_plot_names_both_sets_and_does_without_held_out_images(tmp_path: Path) -> None:
    samples, held_out = torch.rand(20, dtype=torch.float64), torch.rand(30, dtype=torch.float64)
    spaces = {"pixels": (samples, held_out), "features": (samples, held_out)}
    plot_distances(tmp_path / "both", spaces, title="digits $x_1$", caption="how")
    for word in ("held out (30)", "samples (20)", "distance in features", "digits $x_1$", "how"):
        assert word in (tmp_path / "both.svg").read_text()
    plot_distances(tmp_path / "one", {"pixels": (samples, held_out[:0])}, title="digits", caption="")
    assert "held out" not in (tmp_path / "one.svg").read_text()
