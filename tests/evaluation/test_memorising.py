"""The memorising test: statistics against their definitions, coverage of intervals, error rates, and verdicts."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.evaluation.memorizing import (
    NEAR_QUANTILE,
    SIGNIFICANCE_LEVEL,
    compared,
    is_nearer,
    relative_distances,
    verdict,
)
from ncsnx.runs.result_records import MeasureRecord, Share, SpaceRecord, Verdict

TRIALS = 400


def covered(holds: Callable[[torch.Generator], bool]) -> float:
    """Share of trials in which the interval contained the true value."""
    generator = torch.Generator().manual_seed(20)
    return sum(holds(generator) for _ in range(TRIALS)) / TRIALS


def normal(generator: torch.Generator, count: int, mean: float = 0.0) -> Tensor:
    return mean + torch.randn(count, generator=generator, dtype=torch.float64)


def test_nearer_counts_the_pairs_and_half_of_equal_ones() -> None:
    samples, held_out = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([2.0, 3.0])
    assert compared(samples, held_out).nearer == pytest.approx((2 + 1.5 + 0) / 6)
    assert compared(samples, samples).nearer == 0.5


def test_near_counts_the_samples_below_the_nearest_twentieth_of_held_out_images() -> None:
    held_out = torch.arange(1.0, 101.0)
    samples = torch.tensor([0.5, 4.5, 5.0, 50.0])
    assert compared(samples, held_out).near.value == 0.5, "5 is the fifth of a hundred, and not below itself"


def most(share: float) -> float:
    """The probability plus three standard errors of a share of trials."""
    return share + 3 * math.sqrt(share * (1 - share) / TRIALS)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(64, 300), (64, 50), (20, 10), (256, 50)])
def test_samples_like_held_out_images_are_rarely_called_nearer(n: int, m: int) -> None:
    """Two tests, each wrong in at most 1.25 % of cases."""
    wrong = covered(lambda generator: is_nearer(compared(normal(generator, n), normal(generator, m))))
    assert wrong <= most(2 * SIGNIFICANCE_LEVEL)


def test_the_probabilities_are_those_of_all_orders_alike() -> None:
    """Enumerates the positions of 8 held-out images among 16; the tail is below the nearest of them."""
    n = m = 8
    found = []
    for order in combinations(range(n + m), m):
        samples = [place for place in range(n + m) if place not in order]
        found.append(compared(torch.tensor(samples, dtype=torch.float64), torch.tensor(order, dtype=torch.float64)))
        if len(found) == 300:
            break
    orders = list(combinations(range(n + m), m))
    for one in found[::30]:
        tail = sum(order[0] >= one.near.value * n for order in orders) / len(orders)
        assert one.tail_probability == pytest.approx(tail, rel=1e-9)
        pairs = sum(_nearer(order) >= one.nearer for order in orders) / len(orders)
        assert one.pairs_probability == pytest.approx(pairs, rel=1e-9)


def _nearer(held_out: tuple[int, ...]) -> float:
    return sum(place - rank for rank, place in enumerate(held_out)) / len(held_out) ** 2


def test_a_fifth_of_copies_shows_in_the_tail_where_the_pairs_hardly_show_it() -> None:
    generator = torch.Generator().manual_seed(1)
    samples = normal(generator, 200, mean=0.3)
    samples[:40] -= 20
    found = compared(samples, normal(generator, 300))
    assert found.pairs_probability > SIGNIFICANCE_LEVEL
    assert found.tail_probability < SIGNIFICANCE_LEVEL
    assert found.near.low > NEAR_QUANTILE
    assert is_nearer(found)


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
@pytest.mark.parametrize(("n", "m"), [(64, 300), (64, 50), (256, 100)])
def test_a_perfect_model_is_suspected_in_5_of_100_cases_at_most(n: int, m: int) -> None:
    """Any suspicion counts; "memorising" has half that rate."""
    found = kinds(n, m)
    assert TRIALS - found["no sign"] - found["undecided"] <= most(4 * SIGNIFICANCE_LEVEL) * TRIALS
    assert found["memorising"] <= most(2 * SIGNIFICANCE_LEVEL) * TRIALS


@pytest.mark.parametrize(("n", "m", "copies", "caught"), [(64, 50, 0.2, 0.5), (64, 300, 0.3, 0.95)])
def test_copies_among_samples_that_are_farther_are_caught(n: int, m: int, copies: float, caught: float) -> None:
    generator = torch.Generator().manual_seed(7)
    found = [simulated(generator, n, m, copies, farther=0.3) for _ in range(60)]
    assert sum(one.kind == "memorising" for one in found) >= caught * 60


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "copies", "passed"), [(64, 50, 0.24, 0.95), (64, 300, 0.19, 0.96)])
def test_what_is_found_of_copies_and_of_a_perfect_model_is_what_the_readme_says(
    n: int, m: int, copies: float, passed: float
) -> None:
    assert kinds(n, m, copies, farther=0.3)["memorising"] / TRIALS > 0.9
    assert kinds(n, m)["no sign"] / TRIALS == pytest.approx(passed, abs=most(passed) - passed)


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
        (COPIES, COPIES, "memorising"),
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
