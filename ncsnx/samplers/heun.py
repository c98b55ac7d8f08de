"""Heun's rule for the probability-flow ODE, with churn: Karras et al. 2022 (arXiv 2206.00364), algorithm 2."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ncsnx.samplers.evaluating import Evaluations, to_zero
from ncsnx.samplers.state import Constrain, Noise, Score, State


@torch.no_grad()
def stochastic_heun(
    score: Score,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise,
    churn: float,
    churn_min: float,
    churn_max: float,
    noise_scale: float,
    constrain: Constrain | None = None,
) -> Iterator[State]:
    """Each step first raises σ to σ̂ = σ(1 + γ) by fresh noise, then goes by Heun's rule to the next σ; the last to 0.

    x: (B, C, H, W) with noise of σ_1. churn: S_churn, γ = min(S_churn/N, √2 − 1) where churn_min ≤ σ ≤ churn_max, else
    0; with 0 it is the deterministic solver of dx/dσ = −σ s(x, σ), algorithm 1. noise_scale: S_noise. 2N − 1
    evaluations.
    """
    evaluate = Evaluations(score, constrain)
    most = min(churn / len(sigmas), math.sqrt(2) - 1)
    for number, (sigma, sigma_next) in enumerate(to_zero(sigmas)):
        gamma = most if churn_min <= sigma <= churn_max else 0.0
        sigma_hat = sigma * (1 + gamma)
        if gamma > 0:
            x = x + math.sqrt(sigma_hat**2 - sigma**2) * noise_scale * noise(number)
        state, s = evaluate(x, sigma_hat)
        yield state
        # fresh noise beyond what the reverse Markov chain draws makes a Langevin step, with the pull of one
        excess = ((sigma_hat**2 - sigma**2) - (sigma**2 - sigma_next**2)) / 2
        x = evaluate.pulled(state.x, state, excess)
        slope = -sigma_hat * s
        euler = x + (sigma_next - sigma_hat) * slope
        if sigma_next == 0:
            x = euler
            break
        second, s = evaluate(euler, sigma_next)
        yield second
        x = x + (sigma_next - sigma_hat) * (slope - sigma_next * s) / 2
    yield evaluate.result(x)
