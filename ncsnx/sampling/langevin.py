"""Annealed Langevin dynamics: Song & Ermon 2019 (arXiv 1907.05600), algorithm 1, and with the denoising step
Song & Ermon 2020 (arXiv 2006.09011), algorithm 1."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ncsnx.sampling.state import Constrain, Noise, Score, State


@torch.no_grad()
def annealed_langevin(
    score: Score,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    step_size: float,
    steps_per_level: int,
    denoise: bool,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """L · steps_per_level Langevin steps, largest σ first, and one more evaluation to denoise.

    x: (B, C, H, W), where to start. sigmas: σ_1 > … > σ_L. step_size: ε, the step at σ_L; that of level i is
    α = ε·(σ_i/σ_L)². Yields one state for each evaluation, then the result.
    """
    constrain = constrain or _unconstrained
    sigma_last = sigmas[-1]
    step = 0
    for sigma in sigmas:
        alpha = step_size * (sigma / sigma_last) ** 2
        for _ in range(steps_per_level):
            x = constrain(x, sigma, step)
            s = score(x, sigma)
            yield State(step, sigma, x, denoised=x + sigma**2 * s, evaluations=step + 1)
            x = x + alpha * s + math.sqrt(2 * alpha) * noise(step)
            step += 1
    if not denoise:
        yield State(step, sigma_last, x, denoised=x, evaluations=step)
        return
    x = constrain(x, sigma_last, step)
    denoised = x + sigma_last**2 * score(x, sigma_last)
    yield State(step, sigma_last, x, denoised, evaluations=step + 1)
    yield State(step + 1, 0.0, denoised, denoised, evaluations=step + 1)


def _unconstrained(x: Tensor, sigma: float, step: int) -> Tensor:
    return x
