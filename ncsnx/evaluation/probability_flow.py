"""Densities by the probability-flow ODE: Song et al. 2021 (arXiv 2011.13456), section 4.3 and appendix D.

The variance-exploding SDE dx = √(dσ²/dσ) dw has the same marginals as dx/dσ = −σ s(x, σ), equation 13 with σ for the
time. Along this flow log p changes by minus its divergence (equation 39), so that

    log p(x at σ_min) = log p(x at σ_max) + ∫ ∇ · (−σ s(x, σ)) dσ.
"""

import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor
from torchdiffeq import odeint

from ncsnx.sampling.generate import DivergedError, never_stop
from ncsnx.sampling.state import Score

METHOD = "dopri5"
"""Dormand & Prince's rule of order 5, with the step controlled by that of order 4."""
MOST_EVALUATIONS = 50_000
"""A batch that takes more than this gets nowhere."""


@attrs.frozen(eq=False)
class Probes:
    """What the divergence tr J of a slope with the Jacobian J is taken from: weight · Σ_k v_kᵀ J v_k.

    For v with independent entries of mean 0 and variance 1, vᵀJv has the mean tr J.
    """

    vectors: Tensor
    """(K, B, C, H, W), of the type and on the device that the score is evaluated in and on."""
    weight: float
    """1/K, to average; 1 where the vectors are a basis."""

    def divergence(self, slope: Tensor, x: Tensor, between: Callable[[], None] = never_stop) -> Tensor:
        """(B,): of `slope`, which was computed from `x`, a leaf with gradients.

        One backward pass a vector; `between` is called before each, and may end it by raising.
        """
        total = torch.zeros(len(x), dtype=torch.float64)
        last = len(self.vectors) - 1
        for number, v in enumerate(self.vectors):
            between()
            (product,) = torch.autograd.grad(slope, x, v, retain_graph=number < last)
            total += (product * v).flatten(1).sum(dim=1).cpu().double()
        return self.weight * total


@attrs.frozen(eq=False)
class Flow:
    """Where images got to."""

    x: Tensor
    """(B, C, H, W) float64 on the CPU, at σ_max."""
    log_volume: Tensor
    """(B,) float64: the integral of the divergence, in nats."""
    evaluations: int
    """Of the score and of its divergence, of each image."""


def to_the_prior(
    score: Score,
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    probes: Probes,
    *,
    tolerance: float,
    watch: Callable[[float], None] = lambda sigma: None,
) -> Flow:
    """Solves the ODE from x at σ_min up to σ_max, together with the integral of its divergence.

    score must have gradients. x: (B, C, H, W) float64 on the CPU, where the state stays, in float64: its rounding would
    limit the tolerance, and not every device has float64. All images share their steps, and at each step each image
    satisfies the tolerance: the estimated errors of x, in the root mean square over its pixels, and of the divergence
    per pixel are at most `tolerance`, absolutely or relative to the value. watch is told of σ before each evaluation
    and each backward pass, and may end it by raising. Raises DivergedError where a value isn't finite, or the steps
    become too small.
    """
    shape, dimensions = x.shape, math.prod(x.shape[1:])
    device, dtype = probes.vectors.device, probes.vectors.dtype
    evaluations = 0

    def slope_of(time: Tensor, state: Tensor) -> Tensor:
        nonlocal evaluations
        sigma = float(time)
        watch(sigma)
        evaluations += 1
        if evaluations > MOST_EVALUATIONS:
            raise DivergedError(f"after {MOST_EVALUATIONS:,} evaluations the flow has come to σ = {sigma:.3g} only")
        with torch.enable_grad():
            at = state[:, :-1].reshape(shape).to(dtype).to(device).requires_grad_()
            slope = -sigma * score(at, sigma)
            divergence = probes.divergence(slope, at, lambda: watch(sigma))
        slopes = torch.cat([slope.detach().cpu().double().flatten(1), divergence[:, None] / dimensions], dim=1)
        if not bool(torch.isfinite(slopes).all()):
            raise DivergedError(f"at σ = {sigma:.3g} the flow or its divergence isn't finite")
        return slopes

    # the last column is the integral of the divergence per pixel
    start = torch.cat([x.double().flatten(1), torch.zeros(len(x), 1, dtype=torch.float64)], dim=1)
    ends = torch.tensor([sigma_min, sigma_max], dtype=torch.float64)
    options: dict[str, Any] = {"norm": _of_the_worst_image, "step_t": ends[1:]}  # a step ends at σ_max, none beyond
    try:
        with torch.no_grad():
            state = odeint(slope_of, start, ends, rtol=tolerance, atol=tolerance, method=METHOD, options=options)[-1]
    except AssertionError as error:  # how torchdiffeq says that its steps became too small
        raise DivergedError(f"the tolerance of {tolerance:g} can't be kept: {error}") from error
    return Flow(state[:, :-1].reshape(shape), state[:, -1] * dimensions, evaluations)


def log_normal(x: Tensor, mean: float, sigma: float) -> Tensor:
    """(B,): the log density of N(mean, σ² I) at x, (B, …)."""
    z = ((x - mean) / sigma).flatten(1)
    return -0.5 * z.square().sum(dim=1) - z.shape[1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi))


def _of_the_worst_image(errors: Tensor) -> Tensor:
    """Of (B, D + 1) errors relative to the tolerance: the largest of any image's, in x or in its divergence."""
    in_x, in_divergence = errors[:, :-1].square().mean(dim=1).sqrt(), errors[:, -1].abs()
    return torch.maximum(in_x, in_divergence).max()
