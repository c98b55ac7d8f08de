"""Tests whether a model reproduces training images: are its samples nearer to them than held-out images are?

Two tests compare the distances of samples to their nearest training images with those of held-out images. The pairs
test uses the Mann–Whitney statistic, the probability that a sample is nearer than a held-out image (as in Meehan,
Chaudhuri & Dasgupta 2020, arXiv 2004.05675). A model that copies only a few training images shows in the lower tail
only, so the tail test counts samples nearer than all but 5 % of held-out images (exact exceedance test).

Being near doesn't make an image a copy. Smooth images, such as means of real ones, are nearer to training images than
real ones are, but about equally near to many of them; a copy is near to one. So both tests also use a second measure,
the distance relative to the mean distance to the nearest training images (as in Carlini et al. 2023, arXiv 2301.13188,
who average over more of them).

False positives, for a perfect model, whose samples are new images from the data distribution: each test of each
measure is wrong in at most 1.25 % of cases (SIGNIFICANCE_LEVEL; approximately so for pairs, by the normal
approximation). Plain distances therefore look nearer in one space in at most 2.5 % of cases. The verdict is neither "no
sign" nor "undecided" in at most 2.5 % with one space and 5 % with two. It is "memorising", which takes both measures in
all spaces, in at most 2.5 %.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import attrs
import torch
from torch import Tensor

from ncsnx.quantities import counted
from ncsnx.runs.result_records import Share, Verdict
from ncsnx.spelling import argument

NEAR_QUANTILE = 0.05
"""Quantile of the held-out distances below which an image counts as near."""
NEIGHBORHOOD = 3
"""Nearest training images whose mean distance relative distances are divided by. With three, a training image that
occurs twice doesn't hide a copy of it; with more, means of a few training images would look like copies."""
SIGNIFICANCE_LEVEL = 0.0125
"""Significance level of each test of each measure: a quarter of 5 %, for two tests in each of two spaces."""
MOST_COPIES = 0.25
"""The verdict is undecided unless a larger share of copies is excluded: a model that copies one image in four must not
pass. A stricter limit would leave good models undecided: with 64 samples and 1,000 held-out images, the median upper
limit for a perfect model is 18 %."""
LIMIT_ERROR = 0.025
"""Largest probability that a limit of the near share is wrong, per limit."""
_Z = 1.959964
_FIRST = 0.75
_SLOPE = (3, 2)
"""The upper limit uses the ranks from the quantile _FIRST of J on, and the slope b = 3n/2m, 3/2 times the number of
samples per held-out image. Any choice gives a valid limit; of those tried for 20 to 1,000 samples and 30 to 1,000
held-out images, this one gives the lowest limits for samples distributed like held-out images."""


@attrs.frozen
class Nearness:
    """How much nearer to training images samples are than held-out images, by one measure of distance."""

    nearer: Share
    """Share of pairs of a sample and a held-out image where the sample is nearer, ties counting half, with a 95 %
    interval."""
    near: Share
    """Share of samples nearer than all but 5 % of held-out images. If all copies are that near, the share of copies is
    at most the upper limit. The interval has a coverage of at least 95 % for any distributions; each limit is wrong in
    at most 2.5 % of cases."""
    pairs_probability: float
    """p-value of the pairs test, in [0, 1]: the probability of at least this share of pairs for samples distributed
    like held-out images."""
    tail_probability: float
    """p-value of the tail test, in [0, 1]: the probability of at least this many near samples for samples distributed
    like held-out images."""

    @property
    def is_nearer(self) -> bool:
        """Whether either test is significant: too many nearer pairs, or too many near samples."""
        return min(self.pairs_probability, self.tail_probability) <= SIGNIFICANCE_LEVEL


@attrs.frozen
class SpaceNearness:
    """Nearness in one space: by the distance to the nearest training image, and by its relative distance."""

    distance: Nearness
    relative: Nearness

    @property
    def is_nearer(self) -> bool:
        """Whether samples are nearer, and to single training images."""
        return self.distance.is_nearer and self.relative.is_nearer


def relative_distances(distances: Tensor) -> Tensor:
    """Relative distances (Q,) from (Q, k) ascending ones: the first over the mean of NEIGHBORHOOD; 0 for 0/0."""
    around = distances[:, :NEIGHBORHOOD].mean(dim=1)
    return (distances[:, 0] / around).nan_to_num(nan=0.0)


def nearness(samples: Tensor, held_out: Tensor) -> Nearness:
    """Nearness from distances to the nearest training image: (n,) of samples and (m,) of held-out images; n, m ≥ 1."""
    ordered = held_out.sort().values
    numbers = samples.contiguous()
    above, from_it_on = (len(held_out) - torch.searchsorted(ordered, numbers, right=right) for right in (True, False))
    nearer = 0.5 * int(above.sum() + from_it_on.sum()) / (len(samples) * len(held_out))
    n, m = len(samples), len(held_out)
    low, high = mann_whitney_interval(nearer, n, m)
    rank = tail_rank(m)
    count = int((samples < ordered[rank - 1]).sum())
    return Nearness(
        nearer=Share(nearer, low, high),
        near=Share(count / n, near_lower_limit(samples, ordered), near_upper_limit(samples, ordered)),
        pairs_probability=mann_whitney_probability(nearer, n, m),
        tail_probability=exceedance_probability(count, n, m, rank),
    )


def verdict(spaces: Mapping[str, SpaceNearness], samples: int, held_out: int) -> Verdict:
    """The verdict over all spaces: "memorising" if samples are nearer, and to single training images, in every space.

    It is "no sign" if samples are nearer in none and a share of copies above MOST_COPIES is excluded. samples,
    held_out: numbers of compared images, at least 1. For error rates see the module.
    """
    nearer = [name for name, space in spaces.items() if space.is_nearer]
    if nearer and len(nearer) == len(spaces):
        alone = (
            "" if len(spaces) > 1 else ", the only space compared; smooth images can be near there too, so look at them"
        )
        return Verdict(
            "memorising",
            "it reproduces training images: samples are nearer to single training images than held-out images are, in "
            f"{' and in '.join(nearer)}{alone}",
        )
    if nearer == ["pixels"]:
        return Verdict(
            "pixels only",
            "samples are nearer to training images than held-out images are, but in pixels only, as images that are "
            "too smooth would be; look at the grid",
        )
    if nearer:
        return Verdict(
            "features only",
            "samples are nearer to training images than held-out images are, but in features only: copies may be "
            "shifted or recoloured, or the features may not tell images apart; look at the grid",
        )
    near = [name for name, space in spaces.items() if space.distance.is_nearer]
    if near:
        return Verdict(
            "near to many",
            f"samples are nearer to training images than held-out images are, in {' and in '.join(near)}, but most are "
            "about equally near to many, as smooth images are; look for single copies in the grid, nearest first",
        )
    share = max(space.distance.near.high for space in spaces.values())
    could_be = f"up to {math.ceil(100 * share)} % of its samples could be copies"
    if share > MOST_COPIES:
        return Verdict(
            "undecided",
            "undecided: samples are not significantly nearer to training images than held-out images are, but "
            f"{could_be}. There are too few images to tell: {counted(samples, 'sample')} and "
            f"{counted(held_out, 'held-out image')}; draw more with {argument('n')}, or hold out more",
        )
    return Verdict(
        "no sign",
        "no sign of memorising: samples are not significantly nearer to training images than held-out images are; "
        f"still, {could_be}",
    )


def tail_rank(m: int) -> int:
    """The rank, from 1, of the held-out distance below which a sample is in the tail: about 5 % of m, at least 1."""
    return max(1, round(NEAR_QUANTILE * m))


def exceedance_probability(count: int, n: int, m: int, rank: int) -> float:
    """The probability that at least `count` of n numbers are below the rank-th smallest of m others from the same law.

    count: 0 to n. rank: 1 to m. Holds for exchangeable numbers of any distribution; with ties it is an upper bound.
    The event occurs if at most rank − 1 of the count + rank − 1 smallest numbers are from the m, which is a sum of
    hypergeometric probabilities. (Epstein 1954, Annals of Mathematical Statistics 25, 762–768; Gibbons & Chakraborti,
    Nonparametric Statistical Inference, on precedence tests.)
    """
    if count == 0:
        return 1.0
    smallest = count + rank - 1
    whole = _log_choose(n + m, smallest)
    few = range(max(0, smallest - n), min(rank, smallest + 1))
    return min(1.0, math.fsum(math.exp(_log_choose(m, j) + _log_choose(n, smallest - j) - whole) for j in few))


def mann_whitney_probability(nearer: float, n: int, m: int) -> float:
    """One-sided p-value of a share of nearer pairs of n and m numbers from the same distribution.

    Mann & Whitney 1947 (Annals of Mathematical Statistics 18, 50–60), by the normal approximation; with ties the true
    probability is smaller.
    """
    return 0.5 * math.erfc((nearer - 0.5) / math.sqrt((n + m + 1) / (6 * n * m)))


def mann_whitney_interval(nearer: float, n: int, m: int) -> tuple[float, float]:
    """95 % interval of the probability that one of n numbers is below one of m.

    Newcombe 2006 (Statistics in Medicine 25, 559–573), method 5: uses the variance of Hanley & McNeil 1982 at the limit
    itself, so it works for 0 and 1 too. At one half, this is the variance of the Mann–Whitney test.
    """
    size = (n + m) / 2 - 1

    def is_beyond(limit: float) -> bool:
        spread = 1 + size * ((1 - limit) / (2 - limit) + limit / (1 + limit))
        return (nearer - limit) ** 2 > _Z**2 * limit * (1 - limit) * spread / (n * m)

    return _crossing(nearer, 0.0, is_beyond), _crossing(nearer, 1.0, is_beyond)


def near_upper_limit(samples: Tensor, ordered: Tensor) -> float:
    """Upper limit of the share of samples below the quantile NEAR_QUANTILE of the distribution of held-out distances.

    samples: (n,). ordered: (m,) ascending held-out distances.

    The statistic is T = max (C_r − b·r) over the ranks r from a first rank to m + 1, with b = 3n/2m. C_r is the number
    of samples at or below the r-th held-out distance, and n for r = m + 1. T never falls when samples get nearer. Of
    all distributions with a share p below the quantile, the least favourable one (smallest T) therefore has its near
    samples just below the quantile and all others beyond every held-out image. Then J ~ Binomial(m, NEAR_QUANTILE)
    held-out images and K ~ Binomial(n, p) samples are below the quantile, and T ≥ K − b·max(J + 1, first). The limit is
    the largest p for which the probability of a T this small is above LIMIT_ERROR.

    A single rank would give a valid limit too, but a higher one: samples distributed like held-out images are few at
    several ranks at once, which the least favourable distribution can't be.
    """
    n, m = len(samples), len(ordered)
    ranks = torch.arange(_first_rank(m), m + 2)
    counts = torch.searchsorted(samples.sort().values, ordered, right=True)
    counts = torch.cat([counts, torch.tensor([n])])[ranks - 1]
    rise, run = _SLOPE
    return _upper_limit(n, m, int((run * m * counts - rise * n * ranks).max()))


@lru_cache(maxsize=4096)
def _upper_limit(n: int, m: int, statistic: int) -> float:
    """The limit for 2m·T = `statistic`, an integer so that nothing is rounded."""
    rise, run = _SLOPE
    ranks = torch.arange(1, m + 2).clamp_min(_first_rank(m))
    most = ((statistic + rise * n * ranks) // (run * m)).clamp(-1, n)  # samples for each J
    weights = _binomial(m, NEAR_QUANTILE)

    def is_excluded(share: float) -> bool:
        at_most = torch.cat([torch.zeros(1, dtype=torch.float64), _binomial(n, share).cumsum(0)])
        return float(weights @ at_most[most + 1]) <= LIMIT_ERROR

    return _crossing(0.0, 1.0, is_excluded)


def near_lower_limit(samples: Tensor, ordered: Tensor) -> float:
    """Lower limit of the share of samples below the quantile NEAR_QUANTILE of the distribution of held-out distances.

    For a share p below the quantile, at least c samples are below the r-th held-out distance with a probability of at
    most P(J < r) + P(J ≥ r)·P(K ≥ c), with J and K as in `near_upper_limit`. r is the largest rank with
    P(J < r) ≤ LIMIT_ERROR / 2. The limit is the smallest p for which that probability is above LIMIT_ERROR.
    """
    rank, below = _last_rank(len(ordered))
    count = int((samples < ordered[rank - 1]).sum()) if rank else 0
    return _lower_limit(len(samples), count, below) if count else 0.0


@lru_cache(maxsize=4096)
def _lower_limit(n: int, count: int, below: float) -> float:
    def is_excluded(share: float) -> bool:
        return below + (1 - below) * float(_binomial(n, share)[count:].sum()) <= LIMIT_ERROR

    return _crossing(1.0, 0.0, is_excluded)


@lru_cache(maxsize=64)
def _first_rank(m: int) -> int:
    """The first rank that the upper limit uses, from 1."""
    return 1 + int((_binomial(m, NEAR_QUANTILE).cumsum(0) < _FIRST).sum())


@lru_cache(maxsize=64)
def _last_rank(m: int) -> tuple[int, float]:
    """The rank r of the lower limit, 0 if m is too small, and P(J < r)."""
    fewer = _binomial(m, NEAR_QUANTILE).cumsum(0)
    rank = int((fewer <= LIMIT_ERROR / 2).sum())
    return rank, float(fewer[rank - 1]) if rank else 0.0


def _crossing(inside: float, end: float, is_beyond: Callable[[float], bool]) -> float:
    """The point between `inside` and `end` where `is_beyond` becomes true, by bisection; `end` if it never does."""
    near, far = inside, end
    for _ in range(40):  # to 1e-12
        middle = 0.5 * (near + far)
        near, far = (near, middle) if is_beyond(middle) else (middle, far)
    return far


def _binomial(count: int, share: float) -> Tensor:
    """Binomial probabilities (count + 1,) float64 of each number of successes, with success probability `share`."""
    if share in (0.0, 1.0):
        return torch.zeros(count + 1, dtype=torch.float64).index_fill(0, torch.tensor([round(share) * count]), 1.0)
    seen = torch.arange(count + 1, dtype=torch.float64)
    return (_log_choices(count) + seen * (math.log(share) - math.log1p(-share)) + count * math.log1p(-share)).exp()


@lru_cache(maxsize=64)
def _log_choices(count: int) -> Tensor:
    factorials = torch.arange(1, count + 2, dtype=torch.float64).lgamma()
    return factorials[-1] - factorials - factorials.flip(0)


def _log_choose(m: int, k: int) -> float:
    return math.lgamma(m + 1) - math.lgamma(k + 1) - math.lgamma(m - k + 1)
