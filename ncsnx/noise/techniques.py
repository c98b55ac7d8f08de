"""Techniques 2 and 4 of Song & Ermon 2020 (arXiv 2006.09011, sections 3.2 and 3.4): levels and step size from σ_1.

D is the number of pixels times channels. All in float64, from `math` alone.
"""

import math
from collections.abc import Callable

from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted

OVERLAP = 0.567
"""C: the paper says about 0.5, and its numbers of levels (232, 500, 788, 1086, 2311) are those of 0.567."""
MOST_OVERLAP = math.erf(3 / math.sqrt(2))
"""C of equal levels: Φ(3) − Φ(−3)."""
_FEWEST_STEPS, _MOST_STEPS = 3, 5
"""T of the published experiments."""
AFFORDED_UPDATES = 3_500
"""L·T up to which a larger T is taken: gives the published T = 5, 5, 4, 3, 3 for L = 232, 500, 788, 1086, 2311."""


def level_overlap(dimensions: int, ratio: float) -> float:
    """C of two neighbouring levels with the ratio γ > 1 (technique 2): the share of one's noise that falls within three
    standard deviations of the other's shell."""
    middle, half = math.sqrt(2 * dimensions) * (ratio - 1), 3 * ratio
    return 0.5 * (math.erf((middle + half) / math.sqrt(2)) - math.erf((middle - half) / math.sqrt(2)))


def level_ratio(dimensions: int, overlap: float = OVERLAP) -> float:
    """γ = σ_i/σ_(i+1) > 1 with Φ(√(2D)(γ − 1) + 3γ) − Φ(√(2D)(γ − 1) − 3γ) = C (technique 2).

    Raises NcsnxError where no ratio has that overlap: C outside (0, Φ(3) − Φ(−3)), or images of a few pixels.
    """

    def excess(gap: float) -> float:
        return level_overlap(dimensions, 1 + gap) - overlap  # falls with the gap

    widest = 1.0
    while excess(widest) > 0 and widest < 1e6:
        widest *= 2
    if not excess(0.0) > 0 > excess(widest):
        raise NcsnxError(
            f"no ratio of noise levels has the overlap {overlap:g} for images of {counted(dimensions, 'number')}: an "
            f"overlap lies between 0 and {MOST_OVERLAP:.4f}, {OVERLAP} by default, and images have 5 numbers or more"
        )
    return 1 + _sign_change(excess, 0.0, widest)


def number_of_levels(sigma_max: float, sigma_min: float, ratio: float) -> int:
    """L = ⌊1 + ln(σ_1/σ_L)/ln γ⌋, at least 2 (technique 2). Raises NcsnxError unless σ_1 > σ_L > 0."""
    if not 0 < sigma_min < sigma_max < math.inf:
        raise NcsnxError(f"σ_1 must be above σ_L = {sigma_min:g}, which {sigma_max:g} is not")
    return max(2, math.floor(1 + math.log(sigma_max / sigma_min) / math.log(ratio)))


def spaced_ratio(sigma_max: float, sigma_min: float, levels: int) -> float:
    """γ of `levels` geometric levels that end exactly at σ_1 and σ_L: a little above that of `level_ratio`."""
    return math.exp(math.log(sigma_max / sigma_min) / (levels - 1))


def affordable_steps(levels: int) -> int:
    """T, "as large as the compute allows" (technique 4): the most from 3 to 5 with L·T ≤ 3,500, and never below 3."""
    return min(_MOST_STEPS, max(_FEWEST_STEPS, AFFORDED_UPDATES // levels))


def remaining_variance(step_size: float, sigma_min: float, ratio: float, steps_per_level: int) -> float:
    """The variance of the noise after the T steps of a level, in units of that level's σ² (technique 4): ideally 1.

    (1 − u)^2T · (γ² − b) + b with u = ε/σ_L² and b = 2ε/(σ_L² − σ_L²(1 − u)²) = 2/(2 − u). For 0 < u < 1 it is a mean
    of γ² and b, which are both above 1, so it never gets there.
    """
    share = step_size / sigma_min**2
    limit = 2 / (2 - share)
    return (1 - share) ** (2 * steps_per_level) * (ratio**2 - limit) + limit


def best_step_size(sigma_min: float, ratio: float, steps_per_level: int) -> float:
    """ε for which `remaining_variance` comes closest to 1 (technique 4), to the precision of float64.

    Its derivative by u = ε/σ_L² has the sign of (1 − a^2T)·b' − 2T·a^(2T−1)·(γ² − b), with a = 1 − u and
    b = 2/(2 − u). The first term rises from 0; the second falls as long as b < γ², and is negative afterwards. So
    there is one minimum, where they are equal, with 0 < u < 1; beyond u = 1 the value is above 2 or above γ².
    """
    above = ratio**2 - 1

    def slope(share: float) -> float:
        kept = math.log1p(-share)  # of the noise's amplitude, in one step
        settled = -math.expm1(2 * steps_per_level * kept) * 2 / (2 - share) ** 2
        return settled - 2 * steps_per_level * math.exp((2 * steps_per_level - 1) * kept) * (
            above - share / (2 - share)
        )

    return sigma_min**2 * _sign_change(slope, 0.0, math.nextafter(1.0, 0.0))


def signal_to_noise(step_size: float, sigma_min: float) -> float:
    """√(ε/2)/σ_L: the `snr` with which the annealed Langevin corrector of score SDEs (arXiv 2011.13456) makes the
    same steps, 2(snr·σ_i)²."""
    return math.sqrt(step_size / 2) / sigma_min


def _sign_change(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one change of sign between `low` and `high` makes it, to the last bit (bisection)."""
    starts_positive = function(low) > 0
    while low < (middle := 0.5 * (low + high)) < high:
        if (function(middle) > 0) == starts_positive:
            low = middle
        else:
            high = middle
    return middle
