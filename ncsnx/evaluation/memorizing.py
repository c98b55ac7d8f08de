"""Tests whether a model reproduces training images: are its samples nearer to them than held-out images are?

Two tests compare the distances of samples to their nearest training images with those of held-out images. The pairs
test is that of Mann and Whitney, of the probability that a sample is nearer than a held-out image (as in Meehan,
Chaudhuri & Dasgupta 2020, arXiv 2004.05675). A model that copies only a few training images shows in the lower tail
only, so the tail test counts samples nearer than all but 5 % of held-out images (exact exceedance test).

Being near doesn't make an image a copy. Smooth images, such as means of real ones, are nearer to training images than
real ones are, but about equally near to many of them; a copy is near to one. So both tests also use a second measure,
the distance relative to the mean distance to the nearest training images (as in Carlini et al. 2023, arXiv 2301.13188,
who average over more of them).

A perfect model draws new images from the data distribution. Each test of each measure is wrong about it in at most
1.25 % of cases (SIGNIFICANCE_LEVEL), so the verdict is neither "no sign" nor "undecided" in at most 5 %.
"""

import math
from collections.abc import Mapping

from scipy.stats import betabinom, binomtest, mannwhitneyu
from torch import Tensor

from ncsnx.quantities import counted
from ncsnx.runs.result_records import MeasureRecord, Share, SpaceRecord, Verdict
from ncsnx.spelling import argument

NEAR_QUANTILE = 0.05
"""Quantile of the held-out distances below which an image counts as near."""
NEIGHBORHOOD = 3
"""Nearest training images whose mean distance relative distances are divided by. With three, a training image that
occurs twice doesn't hide a copy of it; with more, means of a few training images would look like copies."""
SIGNIFICANCE_LEVEL = 0.0125
"""Significance level of each test of each measure: a quarter of 5 %, for two tests in each of two spaces."""
MOST_COPIES = 0.25
"""The verdict is undecided unless a larger share of near samples is excluded: a model that copies one image in four
must not pass."""


def relative_distances(distances: Tensor) -> Tensor:
    """Relative distances (Q,) from (Q, k) ascending ones: the first over the mean of NEIGHBORHOOD; 0 for 0/0."""
    around = distances[:, :NEIGHBORHOOD].mean(dim=1)
    return (distances[:, 0] / around).nan_to_num(nan=0.0)


def compared(samples: Tensor, held_out: Tensor) -> MeasureRecord:
    """Compares distances to the nearest training image, (n,) of samples and (m,) of held-out images; n ≥ 1, m ≥ 0.

    'nearer' is the share of pairs of a sample and a held-out image where the sample is nearer, ties counting half, and
    'pairs_probability' the p-value of the pairs test: the probability of at least this share for samples like held-out
    images. 'near' is the share of samples nearer than all but 5 % of the held-out images, with its 95 % interval for
    these held-out images (Clopper & Pearson 1934), and 'tail_probability' the p-value of the tail test: the probability
    of at least this many near samples for samples like held-out images.

    The number of samples below the r-th smallest of the held-out distances is beta-binomial where both have one
    distribution (Epstein 1954, Annals of Mathematical Statistics 25, 762–768); with ties, that is an upper bound.
    """
    n, m, median = len(samples), len(held_out), float(samples.quantile(0.5))
    if m == 0:
        return MeasureRecord(median=median)
    pairs = mannwhitneyu(samples.numpy(), held_out.numpy(), alternative="less")
    rank = max(1, round(NEAR_QUANTILE * m))
    near = int((samples < held_out.sort().values[rank - 1]).sum())
    limits = binomtest(near, n).proportion_ci(0.95, "exact")
    return MeasureRecord(
        median=median,
        held_out_median=float(held_out.quantile(0.5)),
        nearer=1 - float(pairs.statistic) / (n * m),
        near=Share(near / n, float(limits.low), float(limits.high)),
        pairs_probability=float(pairs.pvalue),
        tail_probability=float(betabinom(n, rank, m + 1 - rank).sf(near - 1)),
    )


def is_nearer(measure: MeasureRecord) -> bool:
    """Whether either test is significant: too many nearer pairs, or too many near samples."""
    tests = measure.pairs_probability, measure.tail_probability
    return any(p_value is not None and p_value <= SIGNIFICANCE_LEVEL for p_value in tests)


def verdict(spaces: Mapping[str, SpaceRecord], samples: int, held_out: int) -> Verdict:
    """The verdict over all spaces: "memorizing" if samples are nearer, and to single training images, in every space.

    It is "nearer" if they are nearer in any, and "no sign" if they are nearer in none and a share of near samples above
    MOST_COPIES is excluded. samples, held_out: numbers of compared images, at least 1. For error rates see the module.
    """
    nearer = [name for name, space in spaces.items() if is_nearer(space.distance)]
    if all(name in nearer and is_nearer(space.relative) for name, space in spaces.items()):
        alone = ", the only space compared; smooth images can be near there too, so look at them"
        return Verdict(
            "memorizing",
            "it reproduces training images: samples are nearer to single training images than held-out images are, in "
            f"{' and in '.join(nearer)}{'' if len(spaces) > 1 else alone}",
        )
    if nearer:
        return Verdict(
            "nearer",
            f"samples are nearer to training images than held-out images are, in {' and in '.join(nearer)}, but not to "
            "single ones in every space; smooth images are near to many, so look for copies in the grid, nearest first",
        )
    share = max(space.distance.near.high for space in spaces.values() if space.distance.near is not None)
    could_be = f"up to {math.ceil(100 * share)} % of its samples could be copies"
    if share > MOST_COPIES:
        return Verdict(
            "undecided",
            "undecided: samples are not significantly nearer to training images than held-out images are, but "
            f"{could_be}. There are too few images to tell: {counted(samples, 'sample')} and "
            f"{counted(held_out, 'held-out image')}; draw more with {argument('n')}",
        )
    return Verdict(
        "no sign",
        "no sign of memorizing: samples are not significantly nearer to training images than held-out images are; "
        f"still, {could_be}",
    )
