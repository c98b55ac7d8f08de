"""Heun's method for the probability-flow ODE, with churn: Karras et al. 2022 (arXiv 2206.00364), algorithm 2."""

import math
from collections.abc import Sequence

from torch import Tensor

from ncsnx.config.sampler import Heun
from ncsnx.samplers.contract import DenoisingModel, Draw, Grids, Steps, append_zero, sampler


def _tried(evaluations: int, grids: Grids) -> list[Heun]:
    steps = (evaluations + 1) // 2
    return [Heun(steps=steps, grid=grids.whole), Heun(steps=steps, churn=float(evaluations), grid=grids.whole)]


@sampler(Heun, tried=_tried, order=2)
def stochastic_heun(
    x: Tensor,
    sigmas: Sequence[float],
    noise: Draw,
    model: DenoisingModel,
    *,
    churn: float,
    churn_min: float,
    churn_max: float | None,
    noise_scale: float,
) -> Steps:
    """Each step raises σ to σ̂ = σ(1 + γ) by fresh noise, then takes a Heun step to the next σ; the last one to 0.

    churn: S_churn, with γ = min(S_churn/N, √2 − 1) where churn_min ≤ σ ≤ churn_max, else 0. With churn = 0 it is the
    deterministic solver of dx/dσ = −σ s(x, σ), algorithm 1. noise_scale: S_noise. NFE: 2N − 1.
    """
    most = min(churn / len(sigmas), math.sqrt(2) - 1)
    for sigma, sigma_next in append_zero(sigmas):
        gamma = most if churn_min <= sigma <= (churn_max or math.inf) else 0.0
        sigma_hat = sigma * (1 + gamma)
        if gamma > 0:
            x = x + math.sqrt(sigma_hat**2 - sigma**2) * noise_scale * noise()
        x, _, score = yield x, sigma_hat
        step, slope = sigma_next - sigma_hat, -sigma_hat * score
        if sigma_next > 0:
            _, score = model(x + step * slope, sigma_next)
            slope = (slope - sigma_next * score) / 2
        x = x + step * slope
    return x
