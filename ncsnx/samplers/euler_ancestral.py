"""Euler's steps with ancestral noise: a step down to σ_down along the ODE, then fresh noise up to the next σ.

The ancestral step of Song et al. 2021 (arXiv 2011.13456), appendix F, with the drift of the probability-flow ODE, as
k-diffusion made it common.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ncsnx.samplers.evaluating import Evaluations, langevin_share, to_zero
from ncsnx.samplers.state import Constrain, Noise, Score, State


@torch.no_grad()
def euler_ancestral(
    score: Score,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    eta: float,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """σ_up = min(σ', η √(σ'² (σ² − σ'²)/σ²)), σ_down = √(σ'² − σ_up²); x ← D + (σ_down/σ)(x − D) + σ_up z.

    x: (B, C, H, W) with noise of σ_1; D = x + σ² s is the denoised x, σ' the next σ. eta: 0 is Euler's rule, 1 gives
    each step the noise of the reverse Markov chain. N evaluations.
    """
    evaluate = Evaluations(score, constrain)
    for sigma, sigma_next in to_zero(sigmas):
        state, _ = evaluate(x, sigma)
        yield state
        up = min(sigma_next, eta * sigma_next * math.sqrt(sigma**2 - sigma_next**2) / sigma)
        down = math.sqrt(sigma_next**2 - up**2)
        share = langevin_share(1 - down / sigma, sigma, sigma_next)
        denoised = evaluate.pulled(state.denoised, state, sigma**2 * share)
        x = denoised + down / sigma * (state.x - denoised)
        if up > 0:
            x = x + up * noise(state.step)
    yield evaluate.result(x)
