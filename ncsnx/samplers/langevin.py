"""Annealed Langevin dynamics: Song & Ermon 2019 (arXiv 1907.05600), algorithm 1, and with the denoising step
Song & Ermon 2020 (arXiv 2006.09011), algorithm 1."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ncsnx.samplers.evaluating import Evaluations
from ncsnx.samplers.state import Constrain, Noise, Score, State


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
    evaluate = Evaluations(score, constrain)
    sigma_last = sigmas[-1]
    for sigma in sigmas:
        alpha = step_size * (sigma / sigma_last) ** 2
        for _ in range(steps_per_level):
            state, s = evaluate(x, sigma)
            yield state
            s = evaluate.pulled(s, state)
            x = state.x + alpha * s + math.sqrt(2 * alpha) * noise(state.step)
    if not denoise:
        yield evaluate.result(x, sigma_last)
        return
    state, _ = evaluate(x, sigma_last)
    yield state
    yield evaluate.result(state.denoised)
