"""Nearest training images against brute force, and the memorising test on digits."""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ncsnx import config
from ncsnx.data.readers.digits import read_digits
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.memorizing import NEIGHBORHOOD, compared, is_nearer, relative_distances, verdict
from ncsnx.evaluation.nearest_images import Nearest, feature_space, nearest, pixel_space
from ncsnx.evaluation.neighbor_pictures import draw_grid, plot_distances
from ncsnx.features.feature_network import Extracted
from ncsnx.images import to_uint8
from ncsnx.runs.result_records import SpaceRecord, Verdict
from tests.features.scripted import PooledFeatures, pictures

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


class Training:
    """Training images that record the sizes of batches."""

    title, facts = "images", dict[str, Any]()

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.given: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, check_stop: Callable[[], None]) -> Iterator[Tensor]:
        for first in range(0, len(self.images), size):
            check_stop()
            batch = self.images[first : first + size]
            self.given.append(len(batch))
            yield batch


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of training images per block."""
    return lambda images: monkeypatch.setattr("ncsnx.evaluation.nearest_images._BLOCK_IMAGES", images)


class Means:
    """Means of quarters of an image as features, not symmetric under reflection."""

    name, dimensions, has_logits, facts = "means", 4, False, dict[str, Any]()

    def __init__(self) -> None:
        self.most = 0

    def __call__(self, images: Tensor) -> Extracted:
        self.most = max(self.most, len(images))
        quarters = images.float().unflatten(-1, (4, 2)).mean(dim=(1, 2, 4))
        return Extracted(quarters, None)


def brute_force(images: Tensor, training: Tensor, k: int, flips: bool) -> Nearest:
    """Nearest training images by definition, image by image."""
    plain, mirrored = (
        ((images.double()[:, None] - others.double()) / 255).square().sum(dim=(2, 3, 4)).sqrt()
        for others in (training, training.flip(-1))
    )
    flipped = (mirrored < plain) if flips else torch.zeros_like(plain, dtype=torch.bool)
    distances = torch.where(flipped, mirrored, plain)
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return Nearest(distances.gather(1, order), order, flipped.gather(1, order))


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("block", [3, 7, 1_000])
def test_they_are_those_of_brute_force_whatever_the_blocks(
    flips: bool, block: int, in_blocks: Callable[[int], None]
) -> None:
    in_blocks(block)
    training, images = pictures(50, 3), pictures(13, 3, side=8).flip(-2)
    training[[4, 20, 33]] = images[2]  # three equal images, at distance 0
    training[11] = images[5].flip(-1)
    (found,) = nearest(images, Training(training), [pixel_space()], 6, flips=flips)
    expected = brute_force(images, training, 6, flips)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.flipped, expected.flipped)
    torch.testing.assert_close(found.distances, expected.distances, rtol=1e-14, atol=0)
    assert found.indices[2, :3].tolist() == [4, 20, 33], "ties are ordered by index"
    assert found.distances[2, :3].tolist() == [0, 0, 0]
    assert (found.distances[5, 0] == 0) == flips
    assert bool(found.flipped[5, 0]) == flips


def test_features_are_compared_in_the_same_pass(in_blocks: Callable[[int], None]) -> None:
    in_blocks(17)
    training, images, network = pictures(90, 1), pictures(11, 1).flip(-2), Means()
    given = Training(training)
    pixels, features = nearest(images, given, [pixel_space(), feature_space(network)], 4, flips=True)
    assert torch.equal(pixels.indices, brute_force(images, training, 4, True).indices)
    mine, plain, mirrored = (network(one).features.double() for one in (images, training, training.flip(-1)))
    distances = torch.minimum(torch.cdist(mine, plain), torch.cdist(mine, mirrored))
    torch.testing.assert_close(features.distances, distances.sort(dim=1).values[:, :4], rtol=1e-6, atol=1e-6)
    assert given.given == [17, 17, 17, 17, 17, 5]


def test_fewer_training_images_than_neighbours_leave_places_free() -> None:
    (found,) = nearest(pictures(2, 1), Training(pictures(3, 1)), [pixel_space()], 5)
    assert (found.indices[:, 3:] == -1).all()
    assert found.distances[:, 3:].isinf().all()


def test_features_that_are_no_numbers_are_an_error() -> None:
    class Broken(Means):
        def __call__(self, images: Tensor) -> Extracted:
            return Extracted(torch.full((len(images), 4), torch.nan), None)

    with pytest.raises(NcsnxError, match="NaN or infinity in the features"):
        nearest(pictures(2, 1), Training(pictures(3, 1)), [feature_space(Broken())], 1)
