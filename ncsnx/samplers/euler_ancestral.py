"""Euler steps with ancestral noise: a step down to σ_down along the ODE, then fresh noise up to the next σ.

The ancestral step of Song et al. 2021 (arXiv 2011.13456), appendix F, with the drift of the probability-flow ODE, as in
k-diffusion.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from ncsnx.config.sampler import EulerAncestral
from ncsnx.samplers.contract import Draw, Steps, append_zero, sampler


@sampler(EulerAncestral, tried=lambda evaluations, grids: [EulerAncestral(steps=evaluations, grid=grids.whole)])
def euler_ancestral(x: Tensor, sigmas: Sequence[float], noise: Draw, *, eta: float) -> Steps:
    """x ← D + (σ_down/σ)(x − D) + σ_up z, with σ_up = min(σ', η √(σ'² (σ² − σ'²)/σ²)) and σ_down = √(σ'² − σ_up²).

    σ' is the next σ. eta: 0 is Euler's method, 1 adds the noise of the reverse Markov chain. NFE: N.
    """
    for sigma, sigma_next in append_zero(sigmas):
        up = min(sigma_next, eta * sigma_next * math.sqrt(sigma**2 - sigma_next**2) / sigma)
        down = math.sqrt(sigma_next**2 - up**2)
        x, denoised, _ = yield x, sigma
        x = denoised + down / sigma * (x - denoised)
        if up > 0:
            x = x + up * noise()
    return x
