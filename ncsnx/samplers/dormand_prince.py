"""Adaptive solver of ordinary differential equations in σ (torchdiffeq)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchdiffeq import odeint

from ncsnx.errors import DivergedError
from ncsnx.quantities import counted

METHOD = "dopri5"
"""The Dormand–Prince method of order 5, with step size control by the embedded method of order 4."""
MOST_EVALUATIONS = 50_000
"""Most evaluations of one call; more means that the solver makes no progress."""


def solve(
    slope: Callable[[float, Tensor], Tensor],
    y: Tensor,
    start: float,
    end: float,
    *,
    tolerance: float,
    norm: Callable[[Tensor], Tensor],
) -> Tensor:
    """y(end), where y(start) = y and dy/dσ = slope(σ, y). The first call of `slope` is at `start`.

    y: (B, …) float64 on the CPU, since rounding in float32 would limit the tolerance and not every device has float64.
    All images share their steps. norm: norm of the estimated errors in units of tolerance · (1 + |y|); a step is
    accepted if it is at most 1. Raises DivergedError if a slope isn't finite or the steps become too small.
    """
    taken = 0

    def checked(time: Tensor, state: Tensor) -> Tensor:
        nonlocal taken
        taken += 1
        sigma = float(time)
        if taken > MOST_EVALUATIONS:
            raise DivergedError(
                f"the solver is only at σ = {sigma:.3g} after {counted(MOST_EVALUATIONS, 'evaluation')}; try a larger "
                "tolerance"
            )
        found = slope(sigma, state)
        if not bool(torch.isfinite(found).all()):
            raise DivergedError(
                f"the slope of the flow is not finite at σ = {sigma:.3g}; try a smaller tolerance, or another "
                "checkpoint"
            )
        return found

    ends = torch.tensor([start, end], dtype=torch.float64)
    options: dict[str, Any] = {"norm": norm, "step_t": ends[1:]}  # no step passes `end`
    try:
        with torch.no_grad():
            states = odeint(checked, y, ends, rtol=tolerance, atol=tolerance, method=METHOD, options=options)
    except AssertionError as error:  # torchdiffeq's error for steps that are too small
        raise DivergedError(f"the tolerance {tolerance:g} cannot be kept: {error}; try a larger one") from error
    final: Tensor = states[-1]
    return final


def largest_rms_error(errors: Tensor) -> Tensor:
    """Largest root mean square of any image's errors. errors: (B, …)."""
    return errors.flatten(1).square().mean(dim=1).sqrt().max()
