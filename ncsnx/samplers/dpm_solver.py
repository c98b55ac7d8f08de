"""DPM-Solver++ of second order with multiple steps (2M), and its SDE variant: Lu et al. 2022 (arXiv 2211.01095).

In λ = −ln σ, for the variance-exploding process (α = 1). With D_i = x + σ² s at σ_i, h = λ_{i+1} − λ_i:

    2M (algorithm 2):       x ← e^{−h} x + (1 − e^{−h}) D'
    SDE-2M (section 5):     x ← e^{−2h} x + (1 − e^{−2h}) D' + σ_{i+1} √(1 − e^{−2h}) z

with D' = D_i + (D_i − D_{i−1})/2r, r = h_{i−1}/h; the first step and the last, to σ = 0, are of first order.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from ncsnx.config.sampler import DPMSolverPP, DPMSolverPPSDE
from ncsnx.samplers.contract import Draw, Grids, Steps, sampler


def _tried(evaluations: int, grids: Grids) -> list[DPMSolverPPSDE]:
    return [
        DPMSolverPPSDE(steps=evaluations, grid=grids.whole),
        DPMSolverPPSDE(steps=evaluations, eta=3.0, grid=grids.inner),
    ]


@sampler(DPMSolverPP, order=2, tried=lambda evaluations, grids: [DPMSolverPP(steps=evaluations, grid=grids.whole)])
@sampler(DPMSolverPPSDE, tried=_tried)
def dpm_solver_pp(x: Tensor, sigmas: Sequence[float], noise: Draw, *, eta: float) -> Steps:
    """DPM-Solver++ with noise that `eta` scales, as in e^{−ηh}: 0 is 2M, 1 is SDE-2M. NFE: N."""
    before: Tensor | None = None
    h_before = 0.0
    for sigma, sigma_next in pairwise(sigmas):
        h = math.log(sigma / sigma_next)
        decay = math.exp(-(1 + eta) * h)
        x, denoised, _ = yield x, sigma
        estimate = denoised if before is None else denoised + (denoised - before) * h / (2 * h_before)
        x = decay * x + (1 - decay) * estimate
        if eta > 0:
            x = x + sigma_next * math.sqrt(1 - math.exp(-2 * eta * h)) * noise()
        before, h_before = denoised, h
    x, denoised, _ = yield x, sigmas[-1]
    return denoised
