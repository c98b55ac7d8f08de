"""Predictor-corrector sampling of the variance-exploding SDE dx = √(dσ²/dt) dw: Song et al. 2021 (arXiv 2011.13456).

Algorithm 2 with the predictors of appendix E (reverse diffusion) and F (ancestral), and the corrector of algorithm 4;
in the order of the authors' code, which corrects before it predicts, and leaves the noise out of the last prediction.

The published Langevin step is 2(r ‖z‖/‖s‖)², with norms that are averaged over the batch. Here an image must not depend
on its batch, so ‖z‖ is its expectation, √D for D pixels times channels, and ‖s‖ that of the image itself. ‖z‖ of the
image would make a large z larger still: the variance would be (1 + 2/D) times as large again.

What remains of it: a step ε(x) that depends on x converges to a density proportional to p(x)/ε(x), here p(x) ‖s(x)‖².
For N(m, v I) that is (1 + 2/D) of the variance, and a step of 2r² of it, however many there are, adds the factor
1/(1 − r²). With r = 0.16 the variance was 1.67, 1.15, 1.06 and 1.03 of the true one for D = 4, 16, 64 and 256 (with ‖z‖
of the image 2.54, 1.30, 1.09 and 1.04). In directions whose variance is well above σ², which are those that images
differ in, both are small. The 'ald' corrector has neither: its step doesn't depend on x, and vanishes with σ.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ncsnx.config.sampler import PredictorCorrector
from ncsnx.samplers.contract import Draw, Grids, Steps, append_zero, sampler


def _tried(evaluations: int, grids: Grids) -> list[PredictorCorrector]:
    return [PredictorCorrector(steps=max(1, evaluations // 2), snr=grids.snr, grid=grids.even)]


def _revision(config: PredictorCorrector) -> int:
    """2: the Langevin corrector's step has the expected norm of the noise in the place of the drawn one."""
    return 2 if config.corrector == "langevin" and config.corrector_steps > 0 else 1


@sampler(PredictorCorrector, tried=_tried, revision=_revision)
def predictor_corrector(
    x: Tensor, sigmas: Sequence[float], noise: Draw, *, predictor: str, corrector: str, corrector_steps: int, snr: float
) -> Steps:
    """At each level `corrector_steps` Langevin steps, then the predictor to the next level; the last one denoises.

    corrector: the step is 2(snr √D/‖s‖)² with the norm of each image's score ('langevin'; biased where D = C·H·W is
    small, see above), or 2(snr σ)² ('ald': with snr = √(ε/2)/σ_L that of annealed Langevin dynamics).
    L · (corrector_steps + 1) evaluations; without a predictor L · corrector_steps + 1.
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
