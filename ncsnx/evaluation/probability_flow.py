"""Densities by the probability-flow ODE: Song et al. 2021 (arXiv 2011.13456), section 4.3 and appendix D.

The variance-exploding SDE dx = √(dσ²/dσ) dw has the same marginals as dx/dσ = −σ s(x, σ), equation 13 with σ for the
time. Along this flow log p changes by minus its divergence (equation 39), so that

    log p(x at σ_min) = log p(x at σ_max) + ∫ ∇ · (−σ s(x, σ)) dσ.
"""

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ncsnx.samplers.dormand_prince import largest_rms_error, solve
from ncsnx.samplers.state import Score
from ncsnx.sampling.generate import never_stop


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

    score must have gradients. x: (B, C, H, W) float64 on the CPU. All images share their steps, and at each step each
    image satisfies the tolerance: the estimated errors of x, in the root mean square over its pixels, and of the
    divergence per pixel are at most `tolerance`, absolutely or relative to the value. watch is told of σ before each
    evaluation and each backward pass, and may end it by raising. Raises DivergedError, see `solve`.
    """
    shape, dimensions = x.shape, math.prod(x.shape[1:])
    device, dtype = probes.vectors.device, probes.vectors.dtype
    evaluations = 0

    def slope_of(sigma: float, state: Tensor) -> Tensor:
        nonlocal evaluations
        watch(sigma)
        evaluations += 1
        with torch.enable_grad():
            at = state[:, :-1].reshape(shape).to(dtype).to(device).requires_grad_()
            slope = -sigma * score(at, sigma)
            divergence = probes.divergence(slope, at, lambda: watch(sigma))
        return torch.cat([slope.detach().cpu().double().flatten(1), divergence[:, None] / dimensions], dim=1)

    # the last column is the integral of the divergence per pixel
    start = torch.cat([x.double().flatten(1), torch.zeros(len(x), 1, dtype=torch.float64)], dim=1)
    state = solve(slope_of, start, sigma_min, sigma_max, tolerance=tolerance, norm=_largest_error)
    return Flow(state[:, :-1].reshape(shape), state[:, -1] * dimensions, evaluations)


def log_normal(x: Tensor, mean: float, sigma: float) -> Tensor:
    """(B,): the log density of N(mean, σ² I) at x, (B, …)."""
    z = ((x - mean) / sigma).flatten(1)
    return -0.5 * z.square().sum(dim=1) - z.shape[1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi))


def _largest_error(errors: Tensor) -> Tensor:
    """Of (B, D + 1) errors relative to the tolerance: the largest of any image's, in x or in its divergence."""
    return torch.maximum(largest_rms_error(errors[:, :-1]), errors[:, -1].abs().max())
