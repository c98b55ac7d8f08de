"""Nearest training images against brute force; the memorizing test: its statistics, and verdicts on digits."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx import config
from ncsnx.data.readers.digits import read_digits
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.memorizing import (
    NEIGHBORHOOD,
    SIGNIFICANCE_LEVEL,
    compared,
    is_nearer,
    relative_distances,
    verdict,
)
from ncsnx.evaluation.nearest_images import Nearest, feature_space, nearest, pixel_space
from ncsnx.features.feature_network import Extracted
from ncsnx.images import to_uint8
from ncsnx.runs.result_records import MeasureRecord, Share, SpaceRecord, Verdict
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
    assert found.kind == "memorizing"
    assert "in pixels and in features" in found.words


def test_a_quarter_of_copies_is_caught_with_few_held_out_images(digits: Digits) -> None:
    mixed = torch.cat([digits.train[: SAMPLES // 4], digits.new[SAMPLES // 4 :]])
    assert judged(mixed, attrs.evolve(digits, held_out=digits.held_out[:50]))[0].kind == "memorizing"


def test_smooth_digits_are_near_to_many_and_no_copies(digits: Digits) -> None:
    """Means of similar training images, as from a model that blurs, are nearer than new digits are."""
    (found,) = nearest(digits.new, Training(digits.train), [pixel_space()], 20)
    for count in (10, 20):
        smooth = to_uint8(digits.train[found.indices[:, :count]].float().mean(dim=1) / 255)
        kind, spaces = judged(smooth, digits)
        assert is_nearer(spaces["pixels"].distance)
        assert not is_nearer(spaces["pixels"].relative)
        assert kind.kind == "nearer"


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
def test_they_are_those_of_brute_force(flips: bool, block: int, in_blocks: Callable[[int], None]) -> None:
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


def test_distances_of_one_block_are_held(monkeypatch: pytest.MonkeyPatch, in_blocks: Callable[[int], None]) -> None:
    in_blocks(8)
    held: list[int] = []
    original = Nearest.update

    def watched(self: Nearest, rows: slice, squared: Tensor, *further: Any) -> None:
        held.append(squared.numel())
        original(self, rows, squared, *further)

    monkeypatch.setattr(Nearest, "update", watched)
    nearest(pictures(30, 1), Training(pictures(40, 1)), [pixel_space()], 3)
    assert max(held) == 8 * 8


def test_fewer_training_images_than_neighbors_leave_places_free() -> None:
    (found,) = nearest(pictures(2, 1), Training(pictures(3, 1)), [pixel_space()], 5)
    assert (found.indices[:, 3:] == -1).all()
    assert found.distances[:, 3:].isinf().all()


def test_features_that_are_no_numbers_are_an_error() -> None:
    class Broken(Means):
        def __call__(self, images: Tensor) -> Extracted:
            return Extracted(torch.full((len(images), 4), torch.nan), None)

    with pytest.raises(NcsnxError, match="NaN or infinity in the features"):
        nearest(pictures(2, 1), Training(pictures(3, 1)), [feature_space(Broken())], 1)


TRIALS = 400


def normal(generator: torch.Generator, count: int, mean: float = 0.0) -> Tensor:
    return mean + torch.randn(count, generator=generator, dtype=torch.float64)


def test_pairs_with_ties_and_samples_below_the_nearest_twentieth_are_counted() -> None:
    samples, held_out = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([2.0, 3.0])
    assert compared(samples, held_out).nearer == pytest.approx((2 + 1.5 + 0) / 6)
    near = compared(torch.tensor([0.5, 4.5, 5.0, 50.0]), torch.arange(1.0, 101.0)).near
    assert near.value == 0.5, "5 is the fifth of a hundred, and not below itself"


def test_the_probabilities_are_those_of_all_orders_alike() -> None:
    """Enumerates the positions of 8 held-out images among 16; the tail is below the nearest of them."""
    n = m = 8
    orders = list(combinations(range(n + m), m))
    for given in orders[:300:100]:
        samples = [place for place in range(n + m) if place not in given]
        one = compared(torch.tensor(samples, dtype=torch.float64), torch.tensor(given, dtype=torch.float64))
        tail = sum(order[0] >= one.near.value * n for order in orders) / len(orders)
        assert one.tail_probability == pytest.approx(tail, rel=1e-9)
        pairs = sum(_nearer(order) >= one.nearer for order in orders) / len(orders)
        assert one.pairs_probability == pytest.approx(pairs, rel=1e-9)


def _nearer(held_out: tuple[int, ...]) -> float:
    return sum(place - rank for rank, place in enumerate(held_out)) / len(held_out) ** 2


def simulated(generator: torch.Generator, n: int, m: int, copies: float, farther: float) -> Verdict:
    """Verdict on a model that copies with probability `copies`; other samples are farther by `farther` deviations.

    A copy is one by both measures in both spaces. Otherwise measures and spaces are independent, which maximizes false
    alarms.
    """
    is_copy = torch.rand(n, generator=generator) < copies

    def measured() -> MeasureRecord:
        samples = normal(generator, n, farther)
        samples[is_copy] -= 20
        return compared(samples, normal(generator, m))

    spaces = {name: space(measured(), measured()) for name in ("pixels", "features")}
    return verdict(spaces, n, m)


def kinds(n: int, m: int, copies: float = 0.0, farther: float = 0.0, trials: int = TRIALS) -> Counter[str]:
    generator = torch.Generator().manual_seed(7)
    return Counter(simulated(generator, n, m, copies, farther).kind for _ in range(trials))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "copies", "passed"), [(64, 50, 0.24, 0.95), (64, 300, 0.19, 0.96)])
def test_what_is_found_of_copies_is_what_the_readme_says(n: int, m: int, copies: float, passed: float) -> None:
    assert kinds(n, m, copies, farther=0.3)["memorizing"] / TRIALS > 0.9
    error = math.sqrt(passed * (1 - passed) / TRIALS)
    assert kinds(n, m)["no sign"] / TRIALS == pytest.approx(passed, abs=3 * error)


def test_relative_distances_are_small_for_what_is_near_to_one_only() -> None:
    distances = torch.tensor([[0.1, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert relative_distances(distances).tolist() == pytest.approx([0.1 / (4.1 / 3), 1.0, 0.0])
    assert relative_distances(torch.tensor([[1.0, 1.0, 1.0, 9.0]])).item() == 1, "the three nearest count"


def measure(near: Share, pairs: float, tail: float) -> MeasureRecord:
    return MeasureRecord(
        median=1.0, held_out_median=1.0, nearer=0.5, near=near, pairs_probability=pairs, tail_probability=tail
    )


def space(distance: MeasureRecord, relative: MeasureRecord) -> SpaceRecord:
    return SpaceRecord(distance=distance, relative=relative)


FAR, CLOSE = measure(Share(0.0, 0.0, 0.123), 0.9, 0.9), measure(Share(0.8, 0.7, 0.9), 0.5, 0.001)
OPEN = measure(Share(0.1, 0.0, 0.301), 0.5, 0.5)
COPIES, MIDST, NONE = space(CLOSE, CLOSE), space(CLOSE, FAR), space(FAR, FAR)


@pytest.mark.parametrize(
    ("pixels", "features", "kind"),
    [
        (COPIES, COPIES, "memorizing"),
        (COPIES, NONE, "nearer"),
        (NONE, COPIES, "nearer"),
        (MIDST, MIDST, "nearer"),
        (MIDST, NONE, "nearer"),
        (NONE, NONE, "no sign"),
        (space(FAR, CLOSE), space(FAR, CLOSE), "no sign"),
        (space(OPEN, OPEN), NONE, "undecided"),
    ],
)
def test_the_verdict_follows_from_both_spaces(pixels: SpaceRecord, features: SpaceRecord, kind: str) -> None:
    assert verdict({"pixels": pixels, "features": features}, 64, 300).kind == kind


@pytest.mark.parametrize("probability", ["pairs_probability", "tail_probability"])
def test_either_test_is_enough_at_its_significance_level(probability: str) -> None:
    assert is_nearer(attrs.evolve(FAR, **{probability: SIGNIFICANCE_LEVEL}))
    assert not is_nearer(attrs.evolve(FAR, **{probability: SIGNIFICANCE_LEVEL + 1e-9}))


def test_no_sign_names_the_share_of_copies_that_it_does_not_exclude() -> None:
    """The largest upper limit of all spaces, rounded up."""
    lower = space(attrs.evolve(FAR, near=Share(0.0, 0.0, 0.05)), FAR)
    found = verdict({"pixels": lower, "features": NONE}, 64, 300)
    assert found.kind == "no sign"
    assert found.words.endswith("; still, up to 13 % of its samples could be copies")
