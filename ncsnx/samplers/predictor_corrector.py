"""Predictor-corrector sampling of the variance-exploding SDE dx = √(dσ²/dt) dw: Song et al. 2021 (arXiv 2011.13456).

Algorithm 2 with the predictors of appendix E (reverse diffusion) and F (ancestral), and the corrector of algorithm 4.
As in the authors' code, the corrector precedes the predictor and the last prediction adds no noise.

The published Langevin step is 2(r ‖z‖/‖s‖)² with norms averaged over the batch. Here an image must not depend on its
batch, so ‖z‖ is its expectation, √D for D pixels times channels, and ‖s‖ the norm of the image's own score. The image's
own ‖z‖ would make a large z even larger: the variance would increase by another factor of 1 + 2/D.

The remaining bias: a step size ε(x) that depends on x converges to a density proportional to p(x)/ε(x), here
p(x) ‖s(x)‖². For N(m, v I) that multiplies the variance by 1 + 2/D, and steps of 2r² times the variance, however many,
multiply it by 1/(1 − r²). With r = 0.16 the variance was 1.67, 1.15, 1.06 and 1.03 times the true one for D = 4, 16, 64
and 256 (with the image's own ‖z‖ 2.54, 1.30, 1.09 and 1.04 times). In directions whose variance is well above σ², the
ones in which images differ, both effects are small. The 'ald' corrector has neither: its step size doesn't depend on x
and vanishes with σ.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ncsnx.config.sampler import PredictorCorrector
from ncsnx.samplers.contract import Draw, Grids, Steps, append_zero, sampler


def _tried(evaluations: int, grids: Grids) -> list[PredictorCorrector]:
    return [PredictorCorrector(steps=max(1, evaluations // 2), snr=grids.snr, grid=grids.even)]


@sampler(PredictorCorrector, tried=_tried)
def predictor_corrector(
    x: Tensor, sigmas: Sequence[float], noise: Draw, *, predictor: str, corrector: str, corrector_steps: int, snr: float
) -> Steps:
    """Takes `corrector_steps` Langevin steps per level, then a predictor step to the next level; the last one denoises.

    corrector: 'langevin' has the step size 2(snr √D/‖s‖)² with the norm of each image's score (biased for small
    D = C·H·W, see above); 'ald' has 2(snr σ)², which for snr = √(ε/2)/σ_L is that of annealed Langevin dynamics.
    NFE: L · (corrector_steps + 1); without a predictor L · corrector_steps + 1.
    """
    for sigma, sigma_next in append_zero(sigmas):
        for _ in range(corrector_steps):
            x, _, score = yield x, sigma
            step = 2 * snr**2 * (_by_norm(score) if corrector == "langevin" else sigma**2)
            x = x + step * score + (2 * step) ** 0.5 * noise()
        if predictor == "none" and sigma_next > 0:
            continue
        x, _, score = yield x, sigma
        taken = sigma**2 - sigma_next**2
        x = x + taken * score
        if sigma_next > 0:
            added = math.sqrt(taken) * (sigma_next / sigma if predictor == "ancestral" else 1)
            x = x + added * noise()
    return x


def _by_norm(score: Tensor) -> Tensor:
    """D/‖s‖² of each image: (B, 1, 1, 1)."""
    return 1 / (score**2).mean(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(score.dtype).tiny)
