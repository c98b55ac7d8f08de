"""Grids of σ: the noise levels at which a sampler evaluates the network."""

import math
from collections.abc import Callable, Sequence
from functools import singledispatch
from itertools import pairwise

from ncsnx.config.sampler import Exponential, FreeGrid, Grid, Karras, TrainedLevels
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted
from ncsnx.registering import unregistered


@singledispatch
def grid_of(config: Grid, steps: int, trained: Sequence[float]) -> list[float]:
    """`steps` strictly decreasing levels. trained: the levels σ_1 > … > σ_L of the network.

    A package registers its own grid with `@grid_of.register(Config)`. Raises NcsnxError for an invalid grid.
    """
    raise unregistered("grid", type(config), "ncsnx.samplers.grids.grid_of.register")


@grid_of.register
def _(config: TrainedLevels, steps: int, trained: Sequence[float]) -> list[float]:
    """Trained levels, as evenly spread as possible, the first and the last included."""
    if steps > len(trained):
        raise NcsnxError(
            f"sampler.steps={steps} is more than the {counted(len(trained), 'trained level')}",
            Hint("take fewer", adds=f"sampler.steps={len(trained)}"),
            Hint("or use another grid", adds="sampler.grid=exponential"),
        )
    last = len(trained) - 1
    return [trained[round(number * last / (steps - 1))] for number in range(steps)] if steps > 1 else [trained[0]]


@grid_of.register
def _(config: Exponential, steps: int, trained: Sequence[float]) -> list[float]:
    """Levels with a constant ratio."""
    high, low = _ends(config, trained)
    return _spread(math.log(high), math.log(low), steps, math.exp)


@grid_of.register
def _(config: Karras, steps: int, trained: Sequence[float]) -> list[float]:
    """Levels at equal distances of σ^(1/ρ): Karras et al. 2022 (arXiv 2206.00364), equation 5."""
    high, low = (end ** (1 / config.rho) for end in _ends(config, trained))
    return _spread(high, low, steps, lambda value: value**config.rho)


def levels_of(config: Grid, steps: int, trained: Sequence[float]) -> list[float]:
    """`grid_of`, checked. Raises NcsnxError unless the levels are positive, finite and strictly decreasing."""
    found = grid_of(config, steps, trained)
    if not all(0 < low < high < math.inf for high, low in pairwise(found)) or not 0 < found[-1] < math.inf:
        raise NcsnxError(
            f"sampler.grid has no strictly decreasing levels for sampler.steps={steps}: they go from {found[0]:g} to "
            f"{found[-1]:g}; try fewer steps, or another grid"
        )
    return found


def _ends(config: FreeGrid, trained: Sequence[float]) -> tuple[float, float]:
    high = trained[0] if config.sigma_max is None else config.sigma_max
    low = trained[-1] if config.sigma_min is None else config.sigma_min
    if not high > low:
        raise NcsnxError(
            f"sampler.grid goes from σ = {high:g} down to {low:g}; give sampler.grid.sigma_max above "
            "sampler.grid.sigma_min"
        )
    return high, low


def _spread(high: float, low: float, steps: int, back: Callable[[float], float]) -> list[float]:
    """`steps` equally spaced values from `high` to `low`, mapped to σ by `back`; `high` alone for one step."""
    return [back(high + (low - high) * number / max(steps - 1, 1)) for number in range(steps)]
