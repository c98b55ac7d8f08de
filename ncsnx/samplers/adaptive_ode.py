"""The probability-flow ODE by a solver that chooses its steps (torchdiffeq): Song et al. 2021 (arXiv 2011.13456),
section 4.3 and equation 13, with σ for the time: dx/dσ = −σ s(x, σ)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchdiffeq import odeint

from ncsnx.errors import DivergedError
from ncsnx.quantities import counted
from ncsnx.samplers.evaluating import Evaluations
from ncsnx.samplers.state import Constrain, Noise, Score, State

METHOD = "dopri5"
"""Dormand & Prince's rule of order 5, with the step controlled by that of order 4."""
MOST_EVALUATIONS = 50_000
"""A flow that takes more than this from one end to the other gets nowhere."""


@torch.no_grad()
def adaptive_ode(
    score: Score,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    tolerance: float,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """A state at each of the σ, between which the solver takes the steps that the tolerance asks for; the last to 0.

    x: (B, C, H, W) with noise of σ_1. tolerance: of a step, on the root mean square over an image's values, absolutely
    or relative to the value. Each image has steps of its own, and is evaluated by itself: so it doesn't depend on its
    batch, and takes no more evaluations than it needs. Two evaluations more at each σ between the first and the last
    than without a stop, since the solver starts there anew: constraints and frames need the state.
    Raises DivergedError.
    """
    evaluate = Evaluations(score, constrain)
    for sigma, sigma_next in pairwise(sigmas):
        state, s = evaluate(x, sigma)
        yield state
        slopes = -sigma * s
        flows = [_Flow(score, like=x[None], known=slope[None]) for x, slope in zip(state.x, slopes, strict=True)]
        ends = [flow.follow(sigma, sigma_next, tolerance) for flow in flows]
        evaluate.count += sum(flow.evaluations for flow in flows) / len(flows)
        x = torch.cat(ends)
    state, _ = evaluate(x, sigmas[-1])
    yield state
    yield evaluate.result(state.denoised)


class _Flow:
    """dx/dσ of one image, (1, C, H, W). known: the slope where it starts."""

    def __init__(self, score: Score, like: Tensor, known: Tensor) -> None:
        self._score, self._like = score, like
        self._known: Tensor | None = known
        self.evaluations = 0

    def follow(self, start: float, end: float, tolerance: float) -> Tensor:
        """Where the image comes to."""
        y = self._like.cpu().double()
        return solve(self._slope, y, start, end, tolerance=tolerance, norm=of_the_worst_image).to(self._like)

    def _slope(self, sigma: float, y: Tensor) -> Tensor:
        slope, self._known = self._known, None
        if slope is None:
            slope = -sigma * self._score(y.to(self._like), sigma)
            self.evaluations += 1
        return slope.cpu().double()


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
                f"at σ = {sigma:.3g} the slope of the flow isn't finite; try a smaller tolerance, or another checkpoint"
            )
        return found

    ends = torch.tensor([start, end], dtype=torch.float64)
    options: dict[str, Any] = {"norm": norm, "step_t": ends[1:]}  # a step ends at `end`, none beyond
    try:
        with torch.no_grad():
            states = odeint(checked, y, ends, rtol=tolerance, atol=tolerance, method=METHOD, options=options)
    except AssertionError as error:  # how torchdiffeq says that its steps became too small
        raise DivergedError(f"the tolerance of {tolerance:g} can't be kept: {error}; a larger one may do") from error
    final: Tensor = states[-1]
    return final


def of_the_worst_image(errors: Tensor) -> Tensor:
    """Of (B, …) errors: the largest root mean square of any image's."""
    return errors.flatten(1).square().mean(dim=1).sqrt().max()
