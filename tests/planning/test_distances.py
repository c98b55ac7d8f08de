"""Distances between images, against all pairs by brute force in float64."""

import math
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config.data_sets import Arrays, Data, Digits
from ncsnx.data import InMemory, Preprocessing, StoredImages
from ncsnx.errors import NcsnxError
from ncsnx.planning import survey as module
from ncsnx.planning.survey import Distances, measure_distances
from ncsnx.randomness import Purpose, Stream
from ncsnx.work import Work
from tests.spaces import space_of


def dataset(images: int, size: int = 6, channels: int = 2, seed: int = 0) -> InMemory:
    """Random pixels of random contrast, so that a few images are outliers."""
    stream, places = Stream(seed, Purpose.SUBSETS), torch.arange(images)
    shape = (channels, size, size)
    pixels = stream.uniform(places, shape) * (0.2 + stream.uniform(places, (1, 1, 1), step=1)) * 200
    return InMemory(StoredImages(pixels.to(torch.uint8), torch.full((images,), -1), 10 * places), (0, 255))


def declared(size: int = 6, channels: int = 2, **fields: Any) -> Data:
    return Arrays(path="x.npy", image_size=size, channels=channels, **fields)


def distances(data_set: InMemory, data: Data, seed: int = 0) -> Distances:
    return measure_distances(data_set, data, space_of(data), seed=seed, work=Work())


def farthest(found: Distances) -> tuple[int, int]:
    """Indices of the two images that are named."""
    first, second = (int(name.removeprefix("image ")) // 10 for name in found.names)
    return first, second


def brute(data_set: InMemory, data: Data, seed: int = 0) -> Tensor:
    """(n, n) float64 distances between images as the network sees them."""
    pixels = data_set.images.pixels
    x = Preprocessing(data, space_of(data), data_set.value_range, seed).measured(pixels, torch.arange(len(pixels)))
    x = x.double().flatten(1)
    return (x[:, None] - x).square().sum(-1).sqrt()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, so that a few images make several blocks, the last one partial."""
    monkeypatch.setattr(module, "_BLOCK_IMAGES", 23)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"transform": "rescaled"},
        {"transform": "logit"},
        {"dequantization": "uniform", "random_flip": True},
        {"dequantization": "gaussian", "transform": "logit"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("small_blocks")
def test_the_largest_of_all_pairs_is_found_in_the_range_of_the_network(fields: dict[str, Any]) -> None:
    data_set, data = dataset(100), declared(**fields)
    expected = brute(data_set, data)
    found = distances(data_set, data)
    assert found.is_exact
    assert found.largest == pytest.approx(float(expected.max()), rel=1e-12)
    assert expected[farthest(found)] == expected.max()
    is_drawn = "dequantization" in fields
    assert found.source == f"largest of 100 {'dequantized images, seed 0' if is_drawn else 'images'}"


def test_the_distance_of_white_and_black_under_dequantization_is_the_expected_one() -> None:
    """Dequantization turns the pixels of 256 levels into u/256 and 1 − u/256; without it the logits are ±13.8."""
    pixels = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    pixels[1] = 255
    data_set = InMemory(StoredImages(pixels, torch.full((2,), -1), torch.arange(2)), (0, 255))
    data = declared(size=32, channels=1, transform="logit")
    assert distances(data_set, data).largest == pytest.approx(32 * 2 * math.log(1e6), rel=1e-3)
    drawn = distances(data_set, attrs.evolve(data, dequantization="uniform")).largest
    # A pixel's difference is the sum of two draws of −ln(u/256) + ln(1 − u/256), with mean m = ln 256 + 1 (to 0.2 %)
    # and variance 1. So its square has the mean 4m² + 2, and a variance of about (2·2m)²·2 + 100.
    mean = math.log(256) + 1
    squares, spread = 4 * mean**2 + 2, math.sqrt(32 * mean**2 + 100)
    assert abs(drawn**2 / 1024 - squares) < 5 * spread / 32 + 0.01 * squares


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("tail", [module.TAIL, 0.3])
def test_the_quantile_is_that_of_all_pairs(tail: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAIL", tail)
    data_set, data = dataset(100), declared()
    pairs = brute(data_set, data)[tuple(torch.triu_indices(100, 100, offset=1))].sort().values
    found = distances(data_set, data)
    expected = float(pairs[math.ceil((1 - tail) * len(pairs)) - 1])
    assert found.quantile == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_low_contrast_on_a_bright_background_loses_no_digits() -> None:
    pixels = 200 + Stream(3, Purpose.SUBSETS).uniform(torch.arange(60), (2, 6, 6)) * 0.01
    data_set = InMemory(StoredImages(pixels, torch.full((60,), -1), torch.arange(60)), (0, 255))
    expected = brute(data_set, declared())
    found = distances(data_set, declared())
    assert found.largest == pytest.approx(float(expected.max()), rel=1e-12)
    assert found.quantile == pytest.approx(float(expected.max()), rel=0.1)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("limit", ["SAMPLED_IMAGES", "SAMPLED_VALUES"])
def test_of_a_larger_set_a_seeded_sample_is_compared(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 40 if limit == "SAMPLED_IMAGES" else 40 * 72)
    data_set, data = dataset(400), declared()
    expected = brute(data_set, data)
    for seed in range(3):
        found = distances(data_set, data, seed=seed)
        assert (found.is_exact, found.images, found.compared) == (False, 400, 40)
        assert found == distances(data_set, data, seed=seed)
        assert found.largest == pytest.approx(float(expected[farthest(found)]), rel=1e-12)
        assert 0.7 * float(expected.max()) < found.largest <= float(expected.max())
        assert found.source == f"estimate (lower bound) from 400 images: all pairs of 40, seed {seed}"


@pytest.mark.parametrize("images", [0, 1])
def test_fewer_than_two_images_have_no_distance(images: int) -> None:
    with pytest.raises(NcsnxError, match="need at least two training images"):
        distances(dataset(images), declared())


def test_equal_images_are_refused() -> None:
    pixels = torch.full((30, 1, 8, 8), 3, dtype=torch.uint8)
    data_set = InMemory(StoredImages(pixels, torch.zeros(30, dtype=torch.int64), torch.arange(30)), (0, 16))
    with pytest.raises(NcsnxError, match="all 30 compared images are equal"):
        distances(data_set, Digits(dequantization="none"))
