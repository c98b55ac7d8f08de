"""The memorising test: statistics against their definitions, coverage of intervals, error rates, and verdicts."""

import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.evaluation.nearest.memorizing import (
    LIMIT_ERROR,
    MOST_COPIES,
    NEAR_QUANTILE,
    SIGNIFICANCE_LEVEL,
    Nearness,
    SpaceNearness,
    exceedance_probability,
    mann_whitney_interval,
    mann_whitney_probability,
    near_lower_limit,
    near_upper_limit,
    nearness,
    relative_distances,
    tail_rank,
    verdict,
)
from ncsnx.runs.result_records import Share, Verdict

TRIALS = 400
LEAST = 0.95 - 3 * math.sqrt(0.95 * 0.05 / TRIALS)
"""95 % minus three standard errors of a share of trials."""


def covered(holds: Callable[[torch.Generator], bool]) -> float:
    """Share of trials in which the interval contained the true value."""
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


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(64, 300), (64, 20), (200, 200), (30, 10)])
@pytest.mark.parametrize("shift", [0.0, 0.7, 2.5])
def test_the_interval_of_pairs_holds_the_probability_in_95_of_100_cases(n: int, m: int, shift: float) -> None:
    """The probability for two normal distributions is Φ(shift / √2)."""
    true = 0.5 * (1 + math.erf(shift / 2))

    def holds(generator: torch.Generator) -> bool:
        found = nearness(normal(generator, n), normal(generator, m, shift)).nearer
        assert 0 <= found.low <= found.value <= found.high <= 1
        return found.low <= true <= found.high

    assert covered(holds) >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(64, 300), (64, 80), (300, 1_000), (64, 10)])
@pytest.mark.parametrize("copies", [0.0, 0.3])
def test_the_interval_of_near_samples_holds_their_share_in_95_of_100_cases_at_least(
    n: int, m: int, copies: float
) -> None:
    """5 % of samples distributed like held-out images are near, and all copies."""
    true = NEAR_QUANTILE + copies * (1 - NEAR_QUANTILE)

    def holds(generator: torch.Generator) -> bool:
        samples = normal(generator, n)
        samples[torch.rand(n, generator=generator) < copies] -= 20
        found = nearness(samples, normal(generator, m)).near
        return found.low <= true <= found.high

    assert covered(holds) >= LEAST


def binomial(count: int, share: float) -> list[float]:
    return [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]


Limit = Callable[[Tensor, Tensor], float]


def wrong(limit: Limit, n: int, m: int, shares: list[float]) -> list[float]:
    """Exact error rate of a limit for each share, for the least favourable distribution, by enumeration.

    Each held-out image is at 0 with a probability of 5 %, otherwise at 2, so that the quantile lies in between. A share
    of the samples is near. For the upper limit, near samples are as far as possible, at 1, and the others beyond every
    held-out image; for the lower limit, near samples are at −1, and the others just beyond the quantile.
    """
    is_upper = limit is near_upper_limit
    near, others = (1.0, 3.0) if is_upper else (-1.0, 1.0)
    of_samples = [binomial(n, share) for share in shares]
    totals = [0.0] * len(shares)
    for below, of_held_out in enumerate(binomial(m, NEAR_QUANTILE)):
        if of_held_out < 1e-7:  # the skipped probabilities sum to less than 1e-5
            continue
        held_out = torch.tensor([0.0] * below + [2.0] * (m - below))
        for count in range(n + 1):
            found = limit(torch.tensor([near] * count + [others] * (n - count)), held_out)
            for number, share in enumerate(shares):
                if (found < share) if is_upper else (found > share):
                    totals[number] += of_held_out * of_samples[number][count]
    return totals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "n", "m"), [(near_upper_limit, 64, 50), (near_upper_limit, 30, 80), (near_lower_limit, 20, 100)]
)
def test_each_limit_of_near_samples_is_wrong_in_2_5_of_100_cases_at_most_and_hardly_less_where_it_is_hardest(
    limit: Limit, n: int, m: int
) -> None:
    found = wrong(limit, n, m, [0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.8])
    assert max(found) <= LIMIT_ERROR
    assert max(found) > 0.9 * LIMIT_ERROR, "counts are integers, so no limit is exact for every share"


def test_a_nearer_sample_lowers_no_limit() -> None:
    """This makes the distribution above the least favourable."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(100):
        samples, ordered = normal(generator, 20), normal(generator, 80).sort().values
        nearer = samples - (torch.rand(20, generator=generator) < 0.3) * torch.rand(20, generator=generator)
        assert near_upper_limit(nearer, ordered) >= near_upper_limit(samples, ordered)
        assert near_lower_limit(nearer, ordered) >= near_lower_limit(samples, ordered)


def test_limits_of_many_images_are_finite_and_close() -> None:
    generator = torch.Generator().manual_seed(3)
    found = nearness(normal(generator, 50_000), normal(generator, 100_000)).near
    # three standard errors of a share of 5 % of 50,000 samples, and of the quantile of 100,000 held-out images
    error = 3 * (
        math.sqrt(NEAR_QUANTILE * (1 - NEAR_QUANTILE) / 50_000)
        + math.sqrt(NEAR_QUANTILE * (1 - NEAR_QUANTILE) / 100_000)
    )
    assert NEAR_QUANTILE - 2 * error < found.low < found.value < found.high < NEAR_QUANTILE + 2 * error


def most(share: float) -> float:
    """The probability plus three standard errors of a share of trials."""
    return share + 3 * math.sqrt(share * (1 - share) / TRIALS)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(64, 300), (64, 50), (20, 10), (256, 50)])
def test_samples_like_held_out_images_are_rarely_called_nearer(n: int, m: int) -> None:
    """Two tests, each wrong in at most 1.25 % of cases."""
    wrong = covered(lambda generator: nearness(normal(generator, n), normal(generator, m)).is_nearer)
    assert wrong <= most(2 * SIGNIFICANCE_LEVEL)


@pytest.mark.parametrize(("n", "m"), [(3, 4), (5, 3), (1, 6), (6, 1), (4, 4)])
def test_the_probability_of_the_tail_is_that_of_all_orders_alike(n: int, m: int) -> None:
    """Enumerates the positions of m numbers among n + m."""
    orders = list(combinations(range(n + m), m))
    for rank in range(1, m + 1):
        for count in range(n + 1):
            seen = sum(order[rank - 1] - (rank - 1) >= count for order in orders)
            assert exceedance_probability(count, n, m, rank) == pytest.approx(seen / len(orders), rel=1e-10)


def test_the_probability_of_the_tail_is_what_a_simulation_finds() -> None:
    n, m, trials = 64, 72, 20_000
    generator = torch.Generator().manual_seed(4)
    rank = tail_rank(m)
    limits = torch.rand((trials, m), generator=generator).sort(dim=1).values[:, rank - 1]
    counts = (torch.rand((trials, n), generator=generator) < limits[:, None]).sum(dim=1)
    for count in (1, 3, 6, 10):
        expected = exceedance_probability(count, n, m, rank)
        error = math.sqrt(expected * (1 - expected) / trials)
        assert float((counts >= count).double().mean()) == pytest.approx(expected, abs=4 * error)


def test_the_probability_of_the_tail_of_many_numbers_is_finite() -> None:
    assert exceedance_probability(0, 50_000, 1_000_000, 50_000) == 1
    assert 0.4 < exceedance_probability(2_500, 50_000, 1_000_000, 50_000) < 0.6
    assert exceedance_probability(50_000, 50_000, 1_000_000, 50_000) < 1e-300


def test_equal_distances_are_no_evidence() -> None:
    found = nearness(torch.zeros(64), torch.zeros(50))
    assert (found.pairs_probability, found.tail_probability) == (0.5, 1.0)


def test_the_probability_of_pairs_is_that_of_all_orders_nearly() -> None:
    """Enumerates the orders of 8 and 8 numbers; near the level, the normal approximation is within a fifth."""
    n = m = 8
    shares = []
    for order in combinations(range(n + m), m):
        below = sum(place - rank for rank, place in enumerate(order))
        shares.append(below / (n * m))
    for share in (0.75, 0.8, 0.84):
        seen = sum(one >= share for one in shares) / len(shares)
        assert mann_whitney_probability(share, n, m) == pytest.approx(seen, rel=0.2)


def test_a_fifth_of_copies_shows_in_the_tail_where_the_pairs_hardly_show_it() -> None:
    generator = torch.Generator().manual_seed(1)
    samples = normal(generator, 200, mean=0.3)
    samples[:40] -= 20
    found = nearness(samples, normal(generator, 300))
    assert found.pairs_probability > SIGNIFICANCE_LEVEL
    assert found.tail_probability < SIGNIFICANCE_LEVEL
    assert found.near.low > NEAR_QUANTILE
    assert found.is_nearer


def simulated(generator: torch.Generator, n: int, m: int, copies: float, farther: float) -> Verdict:
    """Verdict on a model that copies with probability `copies`; other samples are farther by `farther` deviations.

    A copy is one by both measures in both spaces. Otherwise measures and spaces are independent, which maximizes false
    alarms.
    """
    is_copy = torch.rand(n, generator=generator) < copies

    def measured() -> Nearness:
        samples = normal(generator, n, farther)
        samples[is_copy] -= 20
        return nearness(samples, normal(generator, m))

    spaces = {name: SpaceNearness(measured(), measured()) for name in ("pixels", "features")}
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


@pytest.mark.parametrize(
    ("n", "m", "copies", "caught"), [(64, 50, 0.2, 0.5), (256, 50, 0.3, 0.95), (64, 72, 0.3, 0.9), (64, 300, 0.3, 0.95)]
)
def test_copies_among_samples_that_are_farther_are_caught_or_not_denied(
    n: int, m: int, copies: float, caught: float
) -> None:
    """Few held-out images don't hide copies: if there is no sign, that share isn't excluded."""
    generator = torch.Generator().manual_seed(7)
    found = [simulated(generator, n, m, copies, farther=0.3) for _ in range(60)]
    stated = [int(re.findall(r"up to (\d+) %", one.words)[0]) for one in found if one.kind == "no sign"]
    assert all(share >= 100 * copies for share in stated)
    assert sum(one.kind == "memorising" for one in found) >= caught * 60


@pytest.mark.parametrize(("n", "m", "copies", "passed"), [(64, 50, 0.24, 0.46), (64, 300, 0.19, 0.89)])
def test_what_is_found_of_copies_and_of_a_perfect_model_is_what_the_readme_says(
    n: int, m: int, copies: float, passed: float
) -> None:
    assert kinds(n, m, copies, farther=0.3)["memorising"] / TRIALS == pytest.approx(0.9, abs=most(0.9) - 0.9)
    assert kinds(n, m)["no sign"] / TRIALS == pytest.approx(passed, abs=most(passed) - passed)


@pytest.mark.parametrize(("n", "m", "copies"), [(64, 10, 0.27), (20, 300, 0.27), (64, 100, 0.27), (64, 1_000, 0.27)])
def test_no_sign_is_rarely_said_of_more_copies_than_it_excludes(n: int, m: int, copies: float) -> None:
    """The upper limit of the share of copies is wrong in at most 2.5 % of cases."""
    assert copies > MOST_COPIES
    assert kinds(n, m, copies, farther=1.0, trials=200)["no sign"] <= most(0.025) * 200


def test_few_held_out_images_make_wide_intervals() -> None:
    far, near = torch.full((64,), 5.0), torch.linspace(0, 1, 300)
    found = [nearness(far, near[:m]).near for m in (1, 5, 300)]
    widths = [one.high - one.low for one in found]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == 1.0
    copies = torch.zeros(64)
    assert not nearness(copies, torch.ones(1)).is_nearer, "one held-out image shows nothing"
    assert nearness(copies, torch.ones(10)).is_nearer


def test_the_interval_at_one_half_is_that_of_mann_and_whitney() -> None:
    """A share of 1.96 standard deviations of the test from one half is just not significant."""
    for n, m in ((64, 300), (10, 10)):
        away = 1.959964 * math.sqrt((n + m + 1) / (12 * n * m))
        assert mann_whitney_interval(0.5 + away, n, m)[0] == pytest.approx(0.5)
        assert mann_whitney_interval(0.5 - away, n, m)[1] == pytest.approx(0.5)
    assert mann_whitney_interval(0.0, 64, 300)[0] == 0
    assert mann_whitney_interval(1.0, 64, 300)[1] == 1


def test_relative_distances_are_small_for_what_is_near_to_one_only() -> None:
    distances = torch.tensor([[0.1, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert relative_distances(distances).tolist() == pytest.approx([0.1 / (4.1 / 3), 1.0, 0.0])
    assert relative_distances(torch.tensor([[1.0, 1.0, 1.0, 9.0]])).item() == 1, "the three nearest count"


SOME = Share(0.5, 0.2, 0.9)
FAR, CLOSE = Nearness(SOME, Share(0.0, 0.0, 0.123), 0.9, 0.9), Nearness(SOME, Share(0.8, 0.7, 0.9), 0.5, 0.001)
OPEN = Nearness(SOME, Share(0.1, 0.0, 0.301), 0.5, 0.5)
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
    assert verdict({"pixels": pixels, "features": features}, 64, 300).kind == kind


@pytest.mark.parametrize("probability", ["pairs_probability", "tail_probability"])
def test_either_test_is_enough_at_its_significance_level(probability: str) -> None:
    assert attrs.evolve(FAR, **{probability: SIGNIFICANCE_LEVEL}).is_nearer
    assert not attrs.evolve(FAR, **{probability: SIGNIFICANCE_LEVEL + 1e-9}).is_nearer


def test_no_sign_names_the_share_of_copies_that_it_does_not_exclude() -> None:
    """The largest upper limit of all spaces, rounded up."""
    lower = SpaceNearness(attrs.evolve(FAR, near=Share(0.0, 0.0, 0.05)), FAR)
    found = verdict({"pixels": lower, "features": NONE}, 64, 300)
    assert found.kind == "no sign"
    assert found.words.endswith("; still, up to 13 % of its samples could be copies")


def test_undecided_says_what_there_is_and_what_to_do() -> None:
    found = verdict({"pixels": NONE, "features": SpaceNearness(OPEN, FAR)}, 1_064, 50)
    assert found.kind == "undecided"
    assert "up to 31 % of its samples could be copies" in found.words
    assert "1,064 samples and 50 held-out images; draw more with n=, or hold out more" in found.words


def test_near_to_many_does_not_deny_single_copies() -> None:
    words = verdict({"pixels": MIDST}, 64, 300).words
    assert "no copies" not in words
    assert "look for single copies in the grid, nearest first" in words


def test_one_space_alone_can_say_it_with_a_caution() -> None:
    found = verdict({"pixels": COPIES}, 64, 300)
    assert found.kind == "memorising"
    assert "the only space compared; smooth images can be near there too" in found.words
    assert verdict({"pixels": NONE}, 64, 300).kind == "no sign"
