"""Noise levels that are even in σ^(1/ρ): Karras et al. 2022 (arXiv 2206.00364), equation 5, to train at."""

import attrs

from ncsnx.config import Schedule, checks, variant
from ncsnx.schedules.levels import sigmas


@variant(Schedule, "power")
@attrs.frozen(kw_only=True)
class Power(Schedule):
    """Noise levels with a constant difference of σ^(1/ρ)."""

    rho: float = attrs.field(default=7.0, validator=checks.between(1, 100))
    """ρ, 1 to 100: the larger, the more levels are small."""


@sigmas.register
def _power(schedule: Power) -> tuple[float, ...]:
    first, last = schedule.sigma_max ** (1 / schedule.rho), schedule.sigma_min ** (1 / schedule.rho)
    step = (last - first) / (schedule.levels - 1)
    inner = ((first + step * i) ** schedule.rho for i in range(1, schedule.levels - 1))
    return (schedule.sigma_max, *inner, schedule.sigma_min)
