"""Annealed Langevin dynamics: Song & Ermon 2019 (arXiv 1907.05600), algorithm 1, and with the denoising step
Song & Ermon 2020 (arXiv 2006.09011), algorithm 1."""

import math
from collections.abc import Sequence

from torch import Tensor

from ncsnx.config.sampler import AnnealedLangevin
from ncsnx.samplers.contract import Draw, Steps, sampler


@sampler(
    AnnealedLangevin,
    evaluations=lambda config, levels: levels * config.steps_per_level + int(config.denoise),
    tried=lambda evaluations, grids: (),
)
def annealed_langevin(
    x: Tensor, sigmas: Sequence[float], noise: Draw, *, step_size: float, steps_per_level: int, denoise: bool
) -> Steps:
    """L · steps_per_level Langevin steps, largest σ first, and with `denoise` one more evaluation.

    step_size: ε, the step size at σ_L; level i has α = ε·(σ_i/σ_L)².
    """
    for sigma in sigmas:
        alpha = step_size * (sigma / sigmas[-1]) ** 2
        for _ in range(steps_per_level):
            x, _, score = yield x, sigma
            x = x + alpha * score + math.sqrt(2 * alpha) * noise()
    if not denoise:
        return x, sigmas[-1]
    x, denoised, _ = yield x, sigmas[-1]
    return denoised
