"""Distances between images, against all pairs by brute force in float64."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config.data_sets import CIFAR10, Arrays, Data, Dequantization, Digits
from ncsnx.data import InMemory, Preprocessing, StoredImages
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.planning import distances as module
from ncsnx.planning.distances import Distances, measure_distances, tail_interval
from ncsnx.randomness import Purpose, Stream
from ncsnx.work import Advance, Work


def dataset(images: int, size: int = 6, channels: int = 2, seed: int = 0) -> InMemory:
    """Random pixels of random contrast, so that a few images are outliers."""
    stream, places = Stream(seed, Purpose.SUBSETS), torch.arange(images)
    shape = (channels, size, size)
    pixels = stream.uniform(places, shape) * (0.2 + stream.uniform(places, (1, 1, 1), step=1)) * 200
    return InMemory(StoredImages(pixels.to(torch.uint8), torch.full((images,), -1), 10 * places), (0, 255))


def declared(size: int = 6, channels: int = 2, **fields: Any) -> Data:
    return Arrays(path="x.npy", image_size=size, channels=channels, **fields)


def brute(data_set: InMemory, data: Data, seed: int = 0) -> Tensor:
    """(n, n) float64 distances between images as the network sees them."""
    pixels = data_set.images.pixels
    x = Preprocessing(data, data_set.value_range, seed).measured(pixels, torch.arange(len(pixels)))
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
        {"dequantization": "gaussian"},
        {"dequantization": "uniform", "transform": "logit"},
        {"dequantization": "gaussian", "transform": "logit"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("small_blocks")
def test_the_largest_of_all_pairs_is_found_in_the_range_of_the_network(fields: dict[str, Any]) -> None:
    data_set, data = dataset(100), declared(**fields)
    expected = brute(data_set, data)
    found = measure_distances(data_set, data)
    assert found.exact
    assert found.largest == pytest.approx(float(expected.max()), rel=1e-12)
    first, second = (number // 10 for number in found.pair)
    assert expected[first, second] == expected.max()
    is_drawn = "dequantization" in fields
    assert found.source == f"largest of 100 {'dequantized images, seed 0' if is_drawn else 'images'}"


def test_the_distance_of_white_and_black_under_dequantization_is_the_expected_one() -> None:
    """Dequantization turns the pixels of 256 levels into u/256 and 1 − u/256; without it the logits are ±13.8."""
    pixels = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    pixels[1] = 255
    data_set = InMemory(StoredImages(pixels, torch.full((2,), -1), torch.arange(2)), (0, 255))
    data = declared(size=32, channels=1, transform="logit")
    assert measure_distances(data_set, data).largest == pytest.approx(32 * 2 * math.log(1e6), rel=1e-3)
    drawn = measure_distances(data_set, attrs.evolve(data, dequantization="uniform")).largest
    # A pixel's difference is the sum of two draws of −ln(u/256) + ln(1 − u/256), with mean m = ln 256 + 1 (to 0.2 %)
    # and variance 1. So its square has the mean 4m² + 2, and a variance of about (2·2m)²·2 + 100.
    mean = math.log(256) + 1
    squares, spread = 4 * mean**2 + 2, math.sqrt(32 * mean**2 + 100)
    assert abs(drawn**2 / 1024 - squares) < 5 * spread / 32 + 0.01 * squares


DRAWN = {"dequantization": "uniform", "transform": "logit"}


def test_a_seed_gives_one_draw_of_the_dequantization() -> None:
    data_set, data = dataset(60), declared(**DRAWN)
    for seed in (0, 7):
        found = measure_distances(data_set, data, seed=seed)
        assert found == measure_distances(data_set, data, seed=seed)
        assert found.largest == pytest.approx(float(brute(data_set, data, seed).max()), rel=1e-12)
    assert measure_distances(data_set, data, seed=1).largest != found.largest


def test_distances_are_estimated_where_dequantizing_all_images_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWN_NUMBERS", 99 * 72)
    found = measure_distances(dataset(100), declared(**DRAWN))
    assert (found.exact, found.compared, found.scanned) == (False, 99, 99)
    assert measure_distances(dataset(100), declared(transform="logit")).exact
    assert measure_distances(dataset(100), declared(**DRAWN), exact=True).exact


@pytest.mark.usefixtures("small_blocks")
def test_dequantization_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data_set, data = dataset(100), declared(dequantization="uniform")  # a logarithm may round otherwise in a tail
    expected = measure_distances(data_set, data)
    monkeypatch.setattr(module, "_DRAWN_AT_ONCE", 5 * 72)
    assert measure_distances(data_set, data) == expected


def test_rescaling_doubles_every_distance() -> None:
    data_set = dataset(40)
    plain, rescaled = (measure_distances(data_set, declared(transform=name)) for name in ("none", "rescaled"))
    assert rescaled.largest == pytest.approx(2 * plain.largest, rel=1e-6)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("tail", [module.TAIL, 0.3])
def test_the_quantile_is_that_of_all_pairs(tail: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAIL", tail)
    data_set, data = dataset(100), declared()
    pairs = brute(data_set, data)[tuple(torch.triu_indices(100, 100, offset=1))].sort().values
    found = measure_distances(data_set, data)
    expected = float(pairs[math.ceil((1 - tail) * len(pairs)) - 1])
    assert found.bound is not None
    assert found.quantile == pytest.approx(expected, abs=found.bound / 2**15)  # half a bin, and float32's rounding
    assert found.quantile_interval == (found.quantile, found.quantile)


@pytest.mark.usefixtures("small_blocks")
def test_low_contrast_on_a_bright_background_loses_no_digits() -> None:
    pixels = 200 + Stream(3, Purpose.SUBSETS).uniform(torch.arange(60), (2, 6, 6)) * 0.01
    data_set = InMemory(StoredImages(pixels, torch.full((60,), -1), torch.arange(60)), (0, 255))
    expected = brute(data_set, declared())
    found = measure_distances(data_set, declared())
    assert found.largest == pytest.approx(float(expected.max()), rel=1e-12)
    assert found.quantile == pytest.approx(float(expected.max()), rel=0.1)


def estimated(data_set: InMemory, data: Data, seed: int = 0) -> Distances:
    return measure_distances(data_set, data, seed=seed, exact=False)


@pytest.fixture
def few_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates from a sample of 40 images, however small the data set."""
    monkeypatch.setattr(module, "SAMPLED_IMAGES", 40)


@pytest.mark.usefixtures("small_blocks", "few_sampled")
def test_an_estimate_compares_a_sample_and_finds_outliers() -> None:
    data_set, data = dataset(400), declared()
    expected = float(brute(data_set, data).max())
    for seed in range(5):
        found = estimated(data_set, data, seed)
        assert not found.exact
        assert (found.compared, found.scanned, found.seed) == (40, 400, seed)
        assert found.largest == pytest.approx(expected, rel=1e-12)
        assert found.bound is not None
        assert found.bound >= expected
        assert found.source == (
            f"estimate (lower bound) from 400 images: all pairs of 40, and the outermost ones against all, seed {seed}"
        )


@pytest.mark.usefixtures("few_sampled")
def test_an_outlier_outside_the_sample_is_found() -> None:
    data_set = dataset(400)
    data_set.images.pixels[7] = 255
    found = estimated(data_set, declared())
    assert found.largest == pytest.approx(float(brute(data_set, declared()).max()), rel=1e-12)
    assert 70 in found.pair
    assert found.largest > 1.2 * found.quantile


@pytest.mark.usefixtures("few_sampled")
def test_an_estimate_that_has_not_seen_all_images_gives_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCANNED_IMAGES", 100)
    data_set = dataset(400)
    found = estimated(data_set, declared())
    assert (found.scanned, found.bound, found.quantile_interval[1]) == (100, None, None)
    assert "against 100, seed 0" in found.source
    assert found.largest <= float(brute(data_set, declared()).max()) * (1 + 1e-12)


def test_a_seed_gives_one_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLED_IMAGES", 40)
    data_set, data = dataset(200), declared()
    assert estimated(data_set, data, 1) == estimated(data_set, data, 1)
    assert estimated(data_set, data, 1).quantile != estimated(data_set, data, 2).quantile


def test_the_interval_holds_the_quantile_of_the_whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """95 % is a lower bound: 15 or fewer of 20 intervals hold the quantile with a probability below 3e-4."""
    monkeypatch.setattr(module, "SAMPLED_IMAGES", 200)
    monkeypatch.setattr(module, "TAIL", 0.05)  # two hundred images are enough for this tail
    data_set, data = dataset(600, size=4, channels=1), declared(size=4, channels=1)
    whole = measure_distances(data_set, data, exact=True).quantile
    held = 0
    for seed in range(20):
        found = estimated(data_set, data, seed)
        low, high = found.quantile_interval
        assert high is not None
        assert low <= found.quantile <= high < found.largest
        held += low <= whole <= high
    assert held > 15


def test_the_interval_follows_from_the_pairs_of_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLED_IMAGES", 200)
    monkeypatch.setattr(module, "TAIL", 0.05)
    data_set = dataset(600)
    sample = Stream(4, Purpose.PAIRS).permutation(600, epoch=0)[:200]
    pairs = brute(data_set, declared())[sample][:, sample][tuple(torch.triu_indices(200, 200, offset=1))].sort().values
    found = estimated(data_set, declared(), seed=4)
    shares = tail_interval(0.05, 100)  # 100 pairs without a common image
    for share, end in zip(shares, reversed(found.quantile_interval), strict=True):
        expected = float(pairs[math.ceil((1 - share) * len(pairs)) - 1])
        assert end == pytest.approx(expected, abs=float(pairs[-1]) / 2**13)  # a bin is a 2**15th of twice as much


@pytest.mark.parametrize(("tail", "pairs"), [(0.001, 4_000), (0.05, 100), (0.3, 50)])
def test_the_interval_of_shares_is_where_hoeffdings_bound_is_a_fortieth(tail: float, pairs: int) -> None:
    low, high = tail_interval(tail, pairs)
    assert 0 < low < tail < high < 1
    for share in (low, high):
        divergence = share * math.log(share / tail) + (1 - share) * math.log((1 - share) / (1 - tail))
        assert math.exp(-pairs * divergence) == pytest.approx(0.025, rel=1e-6)


def test_a_small_sample_leaves_the_upper_end_open() -> None:
    assert tail_interval(0.001, 1_000)[0] == 0


def test_by_default_large_sets_are_estimated_and_small_ones_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    data_set, data = dataset(50), declared()
    assert measure_distances(data_set, data).exact
    monkeypatch.setattr(module, "EXACT_IMAGES", 49)
    assert not measure_distances(data_set, data).exact
    assert measure_distances(data_set, data, exact=True).exact
    monkeypatch.setattr(module, "EXACT_IMAGES", 50)
    monkeypatch.setattr(module, "COST", 49**2 * 72.0)
    assert not measure_distances(data_set, data).exact


@pytest.mark.parametrize("images", [0, 1])
def test_fewer_than_two_images_have_no_distance(images: int) -> None:
    with pytest.raises(NcsnxError, match="need at least two training images"):
        measure_distances(dataset(images), declared())


@pytest.mark.parametrize("dequantization", ["none", "uniform"])
@pytest.mark.parametrize("exact", [True, False])
def test_equal_images_are_refused(exact: bool, dequantization: Dequantization) -> None:
    pixels = torch.full((30, 1, 8, 8), 3, dtype=torch.uint8)
    data_set = InMemory(StoredImages(pixels, torch.zeros(30, dtype=torch.int64), torch.arange(30)), (0, 16))
    with pytest.raises(NcsnxError, match="all 30 training images are equal"):
        measure_distances(data_set, Digits(dequantization=dequantization), exact=exact)


def test_two_images_are_enough() -> None:
    found = measure_distances(dataset(2), declared())
    assert found.pair == (0, 10)
    assert found.bound == pytest.approx(found.largest, rel=1e-5)  # the centre lies between them


@pytest.mark.usefixtures("small_blocks", "few_sampled")
@pytest.mark.parametrize(
    ("asked", "job"),
    [(1, "reading images"), (2, "reading images"), (3, "measuring distances"), (6, "looking for farther images")],
)
def test_a_stop_ends_it_between_blocks(asked: int, job: str) -> None:
    """Two blocks of the 40 sampled images make three pairs of blocks; the blocks of all 100 follow."""
    left, jobs = list(range(asked)), list[str]()

    def stop() -> None:
        left.pop()
        if not left:
            raise Stopped("stopped")

    @contextmanager
    def progress(name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
        jobs.append(name)
        yield lambda count=1, kept=False: None

    with pytest.raises(Stopped):
        measure_distances(dataset(100), declared(), exact=False, work=Work(check_stop=stop, progress=progress))
    assert jobs[-1] == job


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dequantization", ["none", "uniform"])
def test_images_beyond_the_memory_are_read_again(
    dequantization: Dequantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set, data = dataset(100), declared(dequantization=dequantization)
    expected = measure_distances(data_set, data)
    monkeypatch.setattr(module, "_HELD_BYTES", 0)
    assert measure_distances(data_set, data) == expected


def test_larger_stored_images_are_cropped_from_the_centre() -> None:
    data_set = dataset(30, size=10, channels=3)
    cropped = InMemory(
        attrs.evolve(data_set.images, pixels=data_set.images.pixels[..., 2:8, 2:8]), data_set.value_range
    )
    found = measure_distances(data_set, declared(channels=3, random_crop=10))
    assert found.largest == measure_distances(cropped, declared(channels=3)).largest
    assert found.largest < measure_distances(data_set, declared(size=10, channels=3)).largest


def test_the_largest_distance_of_two_opposite_images_is_the_diagonal() -> None:
    pixels = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    pixels[1] = 255
    data_set = InMemory(StoredImages(pixels, torch.zeros(3, dtype=torch.int64), torch.arange(3)), (0, 255))
    assert measure_distances(data_set, CIFAR10()).largest == pytest.approx(math.sqrt(3072), rel=1e-12)
