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
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ncsnx.samplers.evaluating import Evaluations, to_zero
from ncsnx.samplers.state import Constrain, Noise, Score, State

Predictor: TypeAlias = Literal["reverse-diffusion", "ancestral", "none"]
Corrector: TypeAlias = Literal["langevin", "ald"]

_StepSize: TypeAlias = Callable[[Tensor, float], Tensor | float]


@torch.no_grad()
def predictor_corrector(
    score: Score,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    predictor: Predictor,
    corrector: Corrector,
    corrector_steps: int,
    snr: float,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """At each level `corrector_steps` Langevin steps, then the predictor to the next level; the last one denoises.

    x: (B, C, H, W) with noise of σ_1. corrector: the step is 2(snr √D/‖s‖)² with the norm of each image's score
    ('langevin'; biased where D = C·H·W is small, see above), or 2(snr σ)² ('ald': with snr = √(ε/2)/σ_L that of
    annealed Langevin dynamics).
    L · (corrector_steps + 1) evaluations; without a predictor L · corrector_steps + 1.
    """
    evaluate = Evaluations(score, constrain)
    step_size: _StepSize = _by_norm if corrector == "langevin" else _by_level
    draws = 0
    for sigma, sigma_next in to_zero(sigmas):
        for _ in range(corrector_steps):
            state, s = evaluate(x, sigma)
            yield state
            s = evaluate.pulled(s, state)
            z = noise(draws)
            draws += 1
            step = 2 * step_size(s, sigma) * snr**2
            x = state.x + step * s + (2 * step) ** 0.5 * z
        if predictor == "none" and sigma_next > 0:
            continue
        state, s = evaluate(x, sigma)
        yield state
        x = state.x + (sigma**2 - sigma_next**2) * s
        if sigma_next > 0:
            x = x + _added(predictor, sigma, sigma_next) * noise(draws)
            draws += 1
    yield evaluate.result(x)


def _added(predictor: Predictor, sigma: float, sigma_next: float) -> float:
    """The standard deviation of the noise that a predictor adds."""
    taken = math.sqrt(sigma**2 - sigma_next**2)
    return taken if predictor == "reverse-diffusion" else sigma_next * taken / sigma


def _by_norm(s: Tensor, sigma: float) -> Tensor:
    """D/‖s‖² of each image: (B, 1, 1, 1)."""
    return 1 / (s**2).mean(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)


def _by_level(s: Tensor, sigma: float) -> float:
    return sigma**2
