"""DPM-Solver++ of second order with multiple steps (2M), and its SDE variant: Lu et al. 2022 (arXiv 2211.01095).

In λ = −ln σ, for the variance-exploding process (α = 1). With D_i = x + σ² s at σ_i, h = λ_{i+1} − λ_i:

    2M (algorithm 2):       x ← e^{−h} x + (1 − e^{−h}) D'
    SDE-2M (section 5):     x ← e^{−2h} x + (1 − e^{−2h}) D' + σ_{i+1} √(1 − e^{−2h}) z

with D' = D_i + (D_i − D_{i−1})/2r, r = h_{i−1}/h; the first step and the last, to σ = 0, are of first order.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ncsnx.samplers.evaluating import Evaluations, langevin_share, to_zero
from ncsnx.samplers.state import Constrain, Noise, Score, State


@torch.no_grad()
def dpm_solver_pp(
    score: Score,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    eta: float,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """eta: 0 is 2M, 1 is SDE-2M; between them the noise is scaled as in e^{−ηh}. N evaluations.

    x: (B, C, H, W) with noise of σ_1.
    """
    evaluate = Evaluations(score, constrain)
    before: Tensor | None = None
    h_before = 0.0
    for sigma, sigma_next in to_zero(sigmas):
        state, _ = evaluate(x, sigma)
        yield state
        denoised = state.denoised
        if sigma_next == 0:
            x = denoised
            break
        h = math.log(sigma / sigma_next)
        estimate = denoised if before is None else denoised + (denoised - before) * h / (2 * h_before)
        decay = math.exp(-(1 + eta) * h)
        estimate = evaluate.pulled(estimate, state, sigma**2 * langevin_share(1 - decay, sigma, sigma_next))
        x = decay * state.x + (1 - decay) * estimate
        if eta > 0:
            x = x + sigma_next * math.sqrt(1 - math.exp(-2 * eta * h)) * noise(state.step)
        before, h_before = denoised, h
    yield evaluate.result(x)
