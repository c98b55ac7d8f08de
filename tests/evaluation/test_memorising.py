"""The memorising check: its statistics against their definitions, the coverage of its intervals, and its verdicts."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ncsnx.evaluation.memorising import (
    NEAR,
    Nearness,
    Share,
    SpaceNearness,
    mann_whitney_interval,
    nearness,
    quantile_ranks,
    relative_distances,
    verdict,
    wilson_interval,
)

TRIALS = 400
LEAST = 0.95 - 3 * math.sqrt(0.95 * 0.05 / TRIALS)
"""Three standard errors of the share of trials below what 95 % means."""


def covered(holds: Callable[[torch.Generator], bool]) -> float:
    """The share of trials in which an interval held what it should."""
    generator = torch.Generator().manual_seed(20)
    return sum(holds(generator) for _ in range(TRIALS)) / TRIALS


def normal(generator: torch.Generator, count: int, mean: float = 0.0) -> Tensor:
    return mean + torch.randn(count, generator=generator, dtype=torch.float64)


def test_nearer_counts_the_pairs_and_half_of_equal_ones() -> None:
    samples, held_out = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([2.0, 3.0])
    assert nearness(samples, held_out).nearer.value == pytest.approx((2 + 1.5 + 0) / 6)
    assert nearness(samples, samples).nearer.value == 0.5


def test_near_counts_the_samples_below_the_nearest_twentieth_of_held_out_images() -> None:
    held_out = torch.arange(1.0, 101.0)
    samples = torch.tensor([0.5, 4.5, 5.0, 50.0])
    assert nearness(samples, held_out).near.value == 0.5, "5 is the fifth of a hundred, and not below itself"


@pytest.mark.parametrize(("n", "m"), [(64, 300), (64, 20), (200, 200), (30, 10)])
@pytest.mark.parametrize("shift", [0.0, 0.7, 2.5])
def test_the_interval_of_pairs_holds_the_probability_in_95_of_100_cases(n: int, m: int, shift: float) -> None:
    """Of two normal distributions it is Φ(shift / √2)."""
    true = 0.5 * (1 + math.erf(shift / 2))

    def holds(generator: torch.Generator) -> bool:
        found = nearness(normal(generator, n), normal(generator, m, shift)).nearer
        assert 0 <= found.low <= found.value <= found.high <= 1
        return found.low <= true <= found.high

    assert covered(holds) >= LEAST


@pytest.mark.parametrize(("n", "m"), [(64, 300), (64, 80), (300, 1_000), (64, 10)])
@pytest.mark.parametrize("copies", [0.0, 0.3])
def test_the_interval_of_near_samples_holds_their_share_in_95_of_100_cases(n: int, m: int, copies: float) -> None:
    """Of samples that are like held-out images 5 % are near; of copies all are."""
    true = NEAR + copies * (1 - NEAR)

    def holds(generator: torch.Generator) -> bool:
        samples = normal(generator, n)
        samples[torch.rand(n, generator=generator) < copies] -= 20
        found = nearness(samples, normal(generator, m)).near
        return found.low <= true <= found.high

    assert covered(holds) >= LEAST


def test_samples_like_held_out_images_are_rarely_called_nearer() -> None:
    """Each of the two intervals errs on this side in at most 2.5 % of cases."""
    wrong = covered(lambda generator: nearness(normal(generator, 64), normal(generator, 300)).is_nearer)
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_a_fifth_of_copies_shows_in_the_tail_where_the_pairs_hardly_show_it() -> None:
    generator = torch.Generator().manual_seed(1)
    samples = normal(generator, 200, mean=0.3)
    samples[:40] -= 20
    found = nearness(samples, normal(generator, 300))
    assert found.nearer.low < 0.5
    assert found.near.low > NEAR
    assert found.is_nearer


def test_few_held_out_images_make_wide_intervals() -> None:
    far, near = torch.full((64,), 5.0), torch.linspace(0, 1, 300)
    found = [nearness(far, near[:m]).near for m in (1, 5, 300)]
    widths = [one.high - one.low for one in found]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == 1.0
    copies = torch.zeros(64)
    assert not nearness(copies, torch.ones(1)).is_nearer, "one held-out image shows nothing"
    assert nearness(copies, torch.ones(10)).is_nearer
    assert not nearness(far, torch.ones(1)).tells


def test_the_interval_at_one_half_is_that_of_mann_and_whitney() -> None:
    """A probability is just not told from one half where it is 1.96 standard deviations of their test away."""
    for n, m in ((64, 300), (10, 10)):
        away = 1.959964 * math.sqrt((n + m + 1) / (12 * n * m))
        assert mann_whitney_interval(0.5 + away, n, m)[0] == pytest.approx(0.5)
        assert mann_whitney_interval(0.5 - away, n, m)[1] == pytest.approx(0.5)
    assert mann_whitney_interval(0.0, 64, 300)[0] == 0
    assert mann_whitney_interval(1.0, 64, 300)[1] == 1


def test_wilson_interval_of_known_counts() -> None:
    """Newcombe 1998 (Statistics in Medicine 17, 857–872), table I, method 3."""
    for count, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson_interval(count, n) == pytest.approx((low, high), abs=5e-5)


def test_the_quantile_lies_between_its_ranks() -> None:
    """P(the r-th of m numbers is above the quantile) is that of fewer than r successes in m trials."""
    for m in (10, 85, 300, 1_000):
        low, high = quantile_ranks(m)
        tail = [math.comb(m, k) * NEAR**k * (1 - NEAR) ** (m - k) for k in range(m + 1)]
        assert sum(tail[:low]) <= 0.0125 < sum(tail[: low + 1])
        if high <= m:
            assert 1 - sum(tail[:high]) <= 0.0125 < 1 - sum(tail[: high - 1])
    assert quantile_ranks(10)[0] == 0
    assert quantile_ranks(1) == (0, 2)


def test_relative_distances_are_small_for_what_is_near_to_one_only() -> None:
    distances = torch.tensor([[0.1, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert relative_distances(distances).tolist() == pytest.approx([0.1 / (4.1 / 3), 1.0, 0.0])
    assert relative_distances(torch.tensor([[1.0, 1.0, 1.0, 9.0]])).item() == 1, "the three nearest count"


LOW, HALF, HIGH = Share(0.1, 0.05, 0.2), Share(0.5, 0.2, 0.9), Share(0.9, 0.8, 0.95)
FEW, MANY = Share(0.0, 0.0, 0.1), Share(0.8, 0.7, 0.9)
FAR, CLOSE, OPEN = Nearness(LOW, FEW), Nearness(HIGH, MANY), Nearness(HALF, Share(0.0, 0.0, 1.0))
COPIES, MIDST, NONE = SpaceNearness(CLOSE, CLOSE), SpaceNearness(CLOSE, FAR), SpaceNearness(FAR, FAR)


@pytest.mark.parametrize(
    ("pixels", "features", "kind"),
    [
        (COPIES, COPIES, "memorising"),
        (COPIES, NONE, "pixels only"),
        (NONE, COPIES, "features only"),
        (MIDST, MIDST, "near to many"),
        (MIDST, NONE, "near to many"),
        (NONE, NONE, "no sign"),
        (SpaceNearness(FAR, CLOSE), SpaceNearness(FAR, CLOSE), "no sign"),
        (SpaceNearness(OPEN, OPEN), NONE, "undecided"),
    ],
)
def test_the_verdict_follows_from_both_spaces(pixels: SpaceNearness, features: SpaceNearness, kind: str) -> None:
    assert verdict({"pixels": pixels, "features": features}).kind == kind


def test_one_space_alone_can_say_it_with_a_caution() -> None:
    found = verdict({"pixels": COPIES})
    assert found.kind == "memorising"
    assert "the only measure here: smooth images can be near there too" in found.words
    assert verdict({"pixels": NONE}).kind == "no sign"
