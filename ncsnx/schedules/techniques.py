"""Techniques 2 and 4 of Song & Ermon 2020 (arXiv 2006.09011, sections 3.2 and 3.4): levels and step size from σ_1, the
plan of both, and what annealed Langevin dynamics makes of Gaussian data with them.

D is the number of pixels times channels. All computations are in float64 with `math` alone.
"""

import math
from collections.abc import Callable, Sequence

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted

OVERLAP = 0.567
"""Default C. The paper says about 0.5, but its numbers of levels (232, 500, 788, 1086, 2311) follow from 0.567."""
MOST_OVERLAP = math.erf(3 / math.sqrt(2))
"""Upper limit of C, reached by equal levels: Φ(3) − Φ(−3)."""
_FEWEST_STEPS, _MOST_STEPS = 3, 5
"""Range of T in the published experiments."""
AFFORDED_UPDATES = 3_500
"""Largest L·T for a T above 3. It gives the published T = 5, 5, 4, 3, 3 for L = 232, 500, 788, 1086, 2311."""


def level_overlap(dimensions: int, ratio: float) -> float:
    """C of two neighboring levels with the ratio γ > 1 (technique 2).

    It is the share of one level's noise within three standard deviations of the other level's shell.
    """
    middle, half = math.sqrt(2 * dimensions) * (ratio - 1), 3 * ratio
    return 0.5 * (math.erf((middle + half) / math.sqrt(2)) - math.erf((middle - half) / math.sqrt(2)))


def level_ratio(dimensions: int, overlap: float = OVERLAP) -> float:
    """γ = σ_i/σ_(i+1) > 1 with Φ(√(2D)(γ − 1) + 3γ) − Φ(√(2D)(γ − 1) − 3γ) = C (technique 2).

    Raises NcsnxError if no ratio has the overlap: C outside (0, Φ(3) − Φ(−3)), or images of too few values.
    """

    def excess(gap: float) -> float:
        return level_overlap(dimensions, 1 + gap) - overlap  # decreases with the gap

    widest = 1.0
    while excess(widest) > 0 and widest < 1e6:
        widest *= 2
    if not excess(0.0) > 0 > excess(widest):
        raise NcsnxError(
            f"no noise levels overlap by {overlap:g} for images of {counted(dimensions, 'value')}; expected an overlap "
            f"between 0 and {MOST_OVERLAP:.4f} (default {OVERLAP}), and images of 5 values or more"
        )
    return 1 + _sign_change(excess, 0.0, widest)


def number_of_levels(sigma_max: float, sigma_min: float, ratio: float) -> int:
    """L = ⌊1 + ln(σ_1/σ_L)/ln γ⌋, at least 2 (technique 2). Raises NcsnxError unless σ_1 > σ_L > 0."""
    if not 0 < sigma_min < sigma_max < math.inf:
        raise NcsnxError(f"σ_1 must be above σ_L = {sigma_min:g}, not {sigma_max:g}")
    return max(2, math.floor(1 + math.log(sigma_max / sigma_min) / math.log(ratio)))


def spaced_ratio(sigma_max: float, sigma_min: float, levels: int) -> float:
    """γ of `levels` geometric levels from exactly σ_1 to σ_L, slightly above that of `level_ratio`."""
    return math.exp(math.log(sigma_max / sigma_min) / (levels - 1))


def affordable_steps(levels: int) -> int:
    """T, "as large as the compute allows" (technique 4): the largest of 3 to 5 with L·T ≤ 3,500, but at least 3."""
    return min(_MOST_STEPS, max(_FEWEST_STEPS, AFFORDED_UPDATES // levels))


def remaining_variance(step_size: float, sigma_min: float, ratio: float, steps_per_level: int) -> float:
    """Variance of the noise after the T steps of a level, in units of that level's σ² (technique 4); ideally 1.

    (1 − u)^2T · (γ² − b) + b with u = ε/σ_L² and b = 2ε/(σ_L² − σ_L²(1 − u)²) = 2/(2 − u). For 0 < u < 1 it is a
    weighted mean of γ² and b, both above 1, so it never reaches 1.
    """
    share = step_size / sigma_min**2
    limit = 2 / (2 - share)
    return (1 - share) ** (2 * steps_per_level) * (ratio**2 - limit) + limit


def best_step_size(sigma_min: float, ratio: float, steps_per_level: int) -> float:
    """ε for which `remaining_variance` is closest to 1 (technique 4), to the precision of float64.

    Its derivative with respect to u = ε/σ_L² has the sign of (1 − a^2T)·b' − 2T·a^(2T−1)·(γ² − b), with a = 1 − u and
    b = 2/(2 − u). The first term increases from 0; the second decreases while b < γ² and is negative afterwards. So
    there is one minimum in 0 < u < 1, where both are equal. Beyond u = 1 the variance is above 2 or above γ².
    """
    above = ratio**2 - 1

    def slope(share: float) -> float:
        kept = math.log1p(-share)  # log of the factor of the noise's amplitude per step
        settled = -math.expm1(2 * steps_per_level * kept) * 2 / (2 - share) ** 2
        return settled - 2 * steps_per_level * math.exp((2 * steps_per_level - 1) * kept) * (
            above - share / (2 - share)
        )

    return sigma_min**2 * _sign_change(slope, 0.0, math.nextafter(1.0, 0.0))


def langevin_variance(sigmas: Sequence[float], step_size: float, steps_per_level: int, *, denoise: bool) -> float:
    """Variance that annealed Langevin dynamics gives Gaussian data with an exact score, relative to the data's.

    For data of variance s² a step at level σ takes the variance v of x to (1 − α/d)² v + 2α, with d = s² + σ² and
    α = ε σ²/σ_L². Its fixed point is 2d/(2 − α/d), above d, and x lags behind it from level to level. The result hardly
    depends on s unless s is near σ_1 or σ_L. Here s = 100 σ_L, and x starts with variance s² + σ_1². Infinite where
    steps are too long to converge.
    """
    data, share = (100 * sigmas[-1]) ** 2, step_size / sigmas[-1] ** 2
    variance = data + sigmas[0] ** 2
    for sigma in sigmas:
        total = data + sigma**2
        pull = share * sigma**2 / total
        if pull >= 2:
            return math.inf
        kept, limit = (1 - pull) ** (2 * steps_per_level), 2 * total / (2 - pull)
        variance = kept * (variance - limit) + limit
    return variance / data * ((data / (data + sigmas[-1] ** 2)) ** 2 if denoise else 1)


def _sign_change(function: Callable[[float], float], low: float, high: float) -> float:
    """The point where a function changes sign, once between `low` and `high`, to the last bit (bisection)."""
    starts_positive = function(low) > 0
    while low < (middle := 0.5 * (low + high)) < high:
        if (function(middle) > 0) == starts_positive:
            low = middle
        else:
            high = middle
    return middle


@attrs.frozen(kw_only=True)
class NoisePlan:
    """Noise levels and Langevin steps by techniques 2 and 4 of Song & Ermon 2020 (arXiv 2006.09011)."""

    dimensions: int
    """D: pixels times channels."""
    sigma_max: float
    """σ_1: largest noise level."""
    sigma_min: float
    """σ_L: smallest noise level."""
    overlap: float
    """C: overlap of neighboring levels (technique 2)."""
    ratio: float
    """γ: ratio of neighboring levels with the overlap C."""
    levels: int
    """L: number of levels."""
    steps_per_level: int
    """T: Langevin steps per level."""
    step_size: float
    """ε: the best one (technique 4) for T steps at L geometric levels from σ_1 to σ_L."""

    @property
    def evaluations(self) -> int:
        """Network evaluations per image: T per level, and one to denoise."""
        return self.levels * self.steps_per_level + 1

    @property
    def remaining_variance(self) -> float:
        """Variance of the noise after a level's steps, in units of σ²; technique 4 aims at 1."""
        ratio = spaced_ratio(self.sigma_max, self.sigma_min, self.levels)
        return remaining_variance(self.step_size, self.sigma_min, ratio, self.steps_per_level)


def plan_noise(
    dimensions: int,
    sigma_max: float,
    *,
    sigma_min: float = 0.01,
    overlap: float = OVERLAP,
    steps_per_level: int | None = None,
) -> NoisePlan:
    """The plan for images of `dimensions` values with the largest distance `sigma_max`.

    steps_per_level: T, by default `affordable_steps`. Raises NcsnxError unless σ_1 > σ_L, and if no ratio of
    levels has the overlap.
    """
    ratio = level_ratio(dimensions, overlap)
    levels = number_of_levels(sigma_max, sigma_min, ratio)
    steps = steps_per_level or affordable_steps(levels)
    spaced = spaced_ratio(sigma_max, sigma_min, levels)
    return NoisePlan(
        dimensions=dimensions,
        sigma_max=sigma_max,
        sigma_min=sigma_min,
        overlap=overlap,
        ratio=ratio,
        levels=levels,
        steps_per_level=steps,
        step_size=best_step_size(sigma_min, spaced, steps),
    )
