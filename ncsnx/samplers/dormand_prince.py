"""Ordinary differential equations in σ by a solver that chooses its steps (torchdiffeq)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchdiffeq import odeint

from ncsnx.errors import DivergedError
from ncsnx.quantities import counted

METHOD = "dopri5"
"""Dormand & Prince's rule of order 5, with the step controlled by that of order 4."""
MOST_EVALUATIONS = 50_000
"""A flow that takes more than this from one end to the other gets nowhere."""


def solve(
    slope: Callable[[float, Tensor], Tensor],
    y: Tensor,
    start: float,
    end: float,
    *,
    tolerance: float,
    norm: Callable[[Tensor], Tensor],
) -> Tensor:
    """y(end), where y(start) = y and dy/dσ = slope(σ, y). The first slope that is asked for is that at the start.

    y: (B, …) float64 on the CPU, where the state stays: its rounding would limit the tolerance, and not every device
    has float64. All images share their steps. norm: of the estimated errors in units of tolerance · (1 + |y|); a step
    is taken where it is at most 1. Raises DivergedError where a slope isn't finite, or the steps become too small.
    """
    taken = 0

    def checked(time: Tensor, state: Tensor) -> Tensor:
        nonlocal taken
        taken += 1
        sigma = float(time)
        if taken > MOST_EVALUATIONS:
            raise DivergedError(
                f"after {counted(MOST_EVALUATIONS, 'evaluation')} the flow has come to σ = {sigma:.3g} only; a larger "
                "tolerance may do"
            )
        found = slope(sigma, state)
        if not bool(torch.isfinite(found).all()):
            raise DivergedError(
                f"at σ = {sigma:.3g} the slope of the flow is not finite; try a smaller tolerance, or "
                f"another checkpoint"
            )
        return found

    ends = torch.tensor([start, end], dtype=torch.float64)
    options: dict[str, Any] = {"norm": norm, "step_t": ends[1:]}  # a step ends at `end`, none beyond
    try:
        with torch.no_grad():
            states = odeint(checked, y, ends, rtol=tolerance, atol=tolerance, method=METHOD, options=options)
    except AssertionError as error:  # how torchdiffeq says that its steps became too small
        raise DivergedError(f"the tolerance of {tolerance:g} cannot be kept: {error}; a larger one may do") from error
    final: Tensor = states[-1]
    return final


def of_the_worst_image(errors: Tensor) -> Tensor:
    """Of (B, …) errors: the largest root mean square of any image's."""
    return errors.flatten(1).square().mean(dim=1).sqrt().max()
