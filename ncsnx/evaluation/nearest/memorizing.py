"""Whether a model reproduces training images: are its samples nearer to them than held-out images are?

As in Meehan, Chaudhuri & Dasgupta 2020 (arXiv 2004.05675), the distances of samples to their nearest training images
are compared with those of held-out images by the statistic of Mann and Whitney, the probability that a sample is nearer
than a held-out image. A model that copies some of its training images only shows in the lower tail: so it counts too
how many samples are nearer than all but 5 % of held-out images are, by the exact test of exceedances.

Near alone is no copy: smooth images, such as means of real ones, are nearer to training images than real ones are, but
to many of them alike. A copy is near to one. So the same is asked of the distance relative to the mean over the nearest
ones (as Carlini et al. 2023 do, arXiv 2301.13188, with more of them).

How often a perfect model, one whose samples are new images of the same kind, is suspected: each of the two looks
(pairs, tail) at each measure errs in at most 1.25 of 100 cases (LEVEL; that at pairs nearly so, by the normal
distribution). So plain distances look nearer in one space in at most 2.5 %, and the verdict is another than "no sign"
or "undecided" in at most 2.5 % where one space is looked at, 5 % where two are. "memorising", which takes both measures
in all spaces, is said in at most 2.5 %.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import attrs
import torch
from torch import Tensor

from ncsnx.runs.records.neighbor_record import Share, Verdict
from ncsnx.spelling import argument

NEAR = 0.05
"""The share of held-out images that are as near as that."""
AROUND = 3
"""Nearest training images whose mean distance another is relative to: with three, one that is there twice hides no
copy; with more, means of few training images look like copies."""
LEVEL = 0.0125
"""How improbable must be what is seen of samples that are like held-out images, by each look of each measure: a quarter
of 5 %, for two looks in each of two spaces."""
EXCLUDED = 0.25
"""Where a larger share of copies isn't excluded, nothing is: a model that copies one image in four must not pass. A
stricter limit would leave good models undecided: with 64 samples and 1,000 held-out images, 18 % isn't excluded of a
perfect one, in the median."""
WRONG = 0.025
"""How often each limit of the tail's share is wrong at most."""
_Z = 1.959964
_FIRST = 0.75
_SLOPE = (3, 2)
"""The upper limit looks at the ranks from this quantile of J on, and expects 3/2 as many samples as held-out images
between them. Any choice gives a valid limit; of those tried for 20 to 1,000 samples and 30 to 1,000 held-out images,
this one excludes most for samples that are like held-out images."""


@attrs.frozen
class Nearness:
    """How much nearer to training images samples are than held-out images, by one measure of distance."""

    nearer: Share
    """Of the pairs of a sample and a held-out image those where the sample is nearer; equal ones count half. The
    interval is one of 95 %."""
    near: Share
    """Of the samples those that are nearer than all but 5 % of held-out images. Where samples that are copies are that
    near, no larger share than its upper limit are. The interval holds the share in at least 95 % of cases, whatever the
    distributions: each limit is wrong in at most 2.5 %."""
    pairs_probability: float
    """Of at least so many pairs where the sample is nearer, if samples are like held-out images; in [0, 1]."""
    tail_probability: float
    """Of at least so many samples that are nearer than all but 5 % of held-out images, if they are like those."""

    @property
    def is_nearer(self) -> bool:
        """Whether chance doesn't explain it: too many pairs, or too many samples in the tail. Each errs in LEVEL."""
        return min(self.pairs_probability, self.tail_probability) <= LEVEL


@attrs.frozen
class SpaceNearness:
    """In one space: by the distance to the nearest training image, and by that relative to the distances around."""

    distance: Nearness
    relative: Nearness

    @property
    def is_nearer(self) -> bool:
        """Whether samples are nearer, and to single images."""
        return self.distance.is_nearer and self.relative.is_nearer


def relative_distances(distances: Tensor) -> Tensor:
    """Of (Q, k) ascending distances: (Q,), the first by the mean of the first AROUND; 0 where all of them are."""
    around = distances[:, :AROUND].mean(dim=1)
    return (distances[:, 0] / around).nan_to_num(nan=0.0)


def nearness(samples: Tensor, held_out: Tensor) -> Nearness:
    """Of (n,) distances of samples and (m,) of held-out images, n and m from 1, each to its nearest training image."""
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
    """By the rule: memorising where samples are nearer, and to single images, in every space that was looked at.

    No sign where they aren't in any, and more copies than EXCLUDED are excluded. samples, held_out: how many images
    were compared, from 1. For how often it errs see the module.
    """
    nearer = [name for name, space in spaces.items() if space.is_nearer]
    if nearer and len(nearer) == len(spaces):
        alone = (
            "" if len(spaces) > 1 else ", the only measure here: smooth images can be near there too, so look at them"
        )
        return Verdict(
            "memorising",
            "it reproduces training images: samples are nearer to single ones of them than held-out images are, in "
            f"{' and in '.join(nearer)}{alone}",
        )
    if nearer == ["pixels"]:
        return Verdict(
            "pixels only",
            "nearer to training images than held-out images are, but in pixels only: so are images that are too "
            "smooth; look at the grid",
        )
    if nearer:
        return Verdict(
            "features only",
            "nearer to training images than held-out images are, but in features only: copies that are moved or "
            "recoloured, or features that tell images badly apart; look at the grid",
        )
    near = [name for name, space in spaces.items() if space.distance.is_nearer]
    if near:
        return Verdict(
            "near to many",
            f"nearer to training images than held-out images are, in {' and in '.join(near)}, but to many of them "
            "alike, as smooth images are: most of them, that is; single copies among them must be looked for in the "
            "grid, where the nearest come first",
        )
    share = max(space.distance.near.high for space in spaces.values())
    could_be = f"up to {math.ceil(100 * share)} % of what it draws could be copies"
    if share > EXCLUDED:
        return Verdict(
            "undecided",
            f"undecided: samples are not seen to be nearer to training images than held-out images are, "
            f"but {could_be}; "
            f"there are too few images to tell: samples {samples:,}, held-out images {held_out:,}; draw more with "
            f"{argument('n')}, hold more out",
        )
    return Verdict(
        "no sign",
        "no sign that it memorises: samples are not nearer to training images than held-out images are; "
        f"still, {could_be}",
    )


def tail_rank(m: int) -> int:
    """The rank, from 1, of the one of m ascending distances that the tail ends before: about 5 % are as near."""
    return max(1, round(NEAR * m))


def exceedance_probability(count: int, n: int, m: int, rank: int) -> float:
    """The probability that `count` or more of n numbers are below the rank-th smallest of m others, all of them alike.

    Of exchangeable numbers, whatever their distribution; of ones that can be equal it is no smaller. There are so many
    where among the count + rank − 1 smallest of all at most rank − 1 are of the m: a sum of the hypergeometric
    distribution. (Epstein 1954, Annals of Mathematical Statistics 25, 762–768; Gibbons & Chakraborti, Nonparametric
    Statistical Inference, on precedence tests.) count from 0 to n, rank from 1 to m.
    """
    if count == 0:
        return 1.0
    smallest = count + rank - 1
    whole = _log_choose(n + m, smallest)
    few = range(max(0, smallest - n), min(rank, smallest + 1))
    return min(1.0, math.fsum(math.exp(_log_choose(m, j) + _log_choose(n, smallest - j) - whole) for j in few))


def mann_whitney_probability(nearer: float, n: int, m: int) -> float:
    """The probability of at least that share of the pairs of n and m numbers that are alike, to one side.

    Mann & Whitney 1947 (Annals of Mathematical Statistics 18, 50–60), by the normal distribution; with equal numbers
    among them it is smaller.
    """
    return 0.5 * math.erfc((nearer - 0.5) / math.sqrt((n + m + 1) / (6 * n * m)))


def mann_whitney_interval(nearer: float, n: int, m: int) -> tuple[float, float]:
    """The interval of 95 % of the probability that one of n numbers is below one of m.

    Newcombe 2006 (Statistics in Medicine 25, 559–573), method 5: the variance of Hanley & McNeil 1982 at the limit
    itself, so that it works for 0 and 1 too. At one half it is that of the test of Mann and Whitney.
    """
    size = (n + m) / 2 - 1

    def is_beyond(limit: float) -> bool:
        spread = 1 + size * ((1 - limit) / (2 - limit) + limit / (1 + limit))
        return (nearer - limit) ** 2 > _Z**2 * limit * (1 - limit) * spread / (n * m)

    return _crossing(nearer, 0.0, is_beyond), _crossing(nearer, 1.0, is_beyond)


def near_upper_limit(samples: Tensor, ordered: Tensor) -> float:
    """The upper limit of the share of samples below the quantile NEAR of the distribution of held-out distances.

    samples (n,), ordered: (m,) ascending held-out distances. The statistic is T = max (C_r − b·r) over the ranks r from
    a first one to m + 1, where C_r samples are not above the r-th held-out distance, all of them for r = m + 1, and
    b = 3n/2m. Nearer samples make it no smaller. So of all distributions with a share p below the quantile those give
    the smallest T, and are the hardest to tell from a small share, whose near samples lie just below the quantile
    and whose others lie beyond every held-out image. Then J ~ Binomial(m, NEAR) held-out images and
    K ~ Binomial(n, p) samples are below the quantile, and T ≥ K − b·max(J + 1, first). The limit is the largest p at
    which so small a T has a probability above WRONG.

    A single rank (that of a limit of the quantile) would be as valid; samples that are spread like held-out images are
    few at several ranks at once, which such an arrangement can't be.
    """
    n, m = len(samples), len(ordered)
    ranks = torch.arange(_first_rank(m), m + 2)
    counts = torch.searchsorted(samples.sort().values, ordered, right=True)
    counts = torch.cat([counts, torch.tensor([n])])[ranks - 1]
    rise, run = _SLOPE
    return _upper_limit(n, m, int((run * m * counts - rise * n * ranks).max()))


@lru_cache(maxsize=4096)
def _upper_limit(n: int, m: int, statistic: int) -> float:
    """The limit where 2m·T is `statistic`: in whole numbers, so that nothing is rounded."""
    rise, run = _SLOPE
    ranks = torch.arange(1, m + 2).clamp_min(_first_rank(m))
    most = torch.div(statistic + rise * n * ranks, run * m, rounding_mode="floor").clamp(-1, n)  # samples for each J
    weights = _binomial(m, NEAR)

    def is_excluded(share: float) -> bool:
        at_most = torch.cat([torch.zeros(1, dtype=torch.float64), _binomial(n, share).cumsum(0)])
        return float(weights @ at_most[most + 1]) <= WRONG

    return _crossing(0.0, 1.0, is_excluded)


def near_lower_limit(samples: Tensor, ordered: Tensor) -> float:
    """The lower limit of the share of samples below the quantile NEAR of the distribution of held-out distances.

    With a share p below it, as many samples as c are below the r-th held-out distance with a probability of at most
    P(J < r) + P(J ≥ r)·P(K ≥ c), J and K as in `near_upper_limit`. r is the largest rank with P(J < r) ≤ WRONG / 2; the
    limit is the smallest p at which that probability is above WRONG.
    """
    rank, below = _last_rank(len(ordered))
    count = int((samples < ordered[rank - 1]).sum()) if rank else 0
    return _lower_limit(len(samples), count, below) if count else 0.0


@lru_cache(maxsize=4096)
def _lower_limit(n: int, count: int, below: float) -> float:
    def is_excluded(share: float) -> bool:
        return below + (1 - below) * float(_binomial(n, share)[count:].sum()) <= WRONG

    return _crossing(1.0, 0.0, is_excluded)


@lru_cache(maxsize=64)
def _first_rank(m: int) -> int:
    """The rank that the upper limit looks at first, from 1."""
    return 1 + int((_binomial(m, NEAR).cumsum(0) < _FIRST).sum())


@lru_cache(maxsize=64)
def _last_rank(m: int) -> tuple[int, float]:
    """The rank r of the lower limit, 0 where m is too small for one, and P(J < r)."""
    fewer = _binomial(m, NEAR).cumsum(0)
    rank = int((fewer <= WRONG / 2).sum())
    return rank, float(fewer[rank - 1]) if rank else 0.0


def _crossing(inside: float, end: float, is_beyond: Callable[[float], bool]) -> float:
    """The limit between `inside` and `end` where `is_beyond` begins; `end` where it doesn't."""
    near, far = inside, end
    for _ in range(40):  # to 1e-12
        middle = 0.5 * (near + far)
        near, far = (near, middle) if is_beyond(middle) else (middle, far)
    return far


def _binomial(count: int, share: float) -> Tensor:
    """(count + 1,) float64: the probability of each number of successes, of `share` each."""
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
