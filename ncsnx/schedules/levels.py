"""The noise levels σ_1 > … > σ_L of a schedule, in float64."""

import math
from functools import singledispatch

from ncsnx.config.schedule import Geometric, Listed, Schedule, Uniform
from ncsnx.registering import unregistered


@singledispatch
def sigmas(schedule: Schedule) -> tuple[float, ...]:
    """σ_1 … σ_L, descending, in the range of the network (Song & Ermon 2019, section 4.3)."""
    raise unregistered("schedule", type(schedule), "ncsnx.schedules.levels.sigmas.register")


@sigmas.register
def _geometric(schedule: Geometric) -> tuple[float, ...]:
    low, high = math.log(schedule.sigma_min), math.log(schedule.sigma_max)
    inner = (math.exp(high + (low - high) * i / (schedule.levels - 1)) for i in range(1, schedule.levels - 1))
    return (float(schedule.sigma_max), *inner, float(schedule.sigma_min))


@sigmas.register
def _uniform(schedule: Uniform) -> tuple[float, ...]:
    step = (schedule.sigma_min - schedule.sigma_max) / (schedule.levels - 1)
    inner = (schedule.sigma_max + step * i for i in range(1, schedule.levels - 1))
    return (float(schedule.sigma_max), *inner, float(schedule.sigma_min))


@sigmas.register
def _listed(schedule: Listed) -> tuple[float, ...]:
    return schedule.sigmas
