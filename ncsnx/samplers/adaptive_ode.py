"""The probability-flow ODE by an adaptive solver: Song et al. 2021 (arXiv 2011.13456), section 4.3 and equation 13,
with σ as time: dx/dσ = −σ s(x, σ)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from ncsnx.config.sampler import ProbabilityFlowODE
from ncsnx.samplers.contract import DenoisingModel, Steps, sampler
from ncsnx.samplers.dormand_prince import in_float64, rms_error, solve


@sampler(
    ProbabilityFlowODE,
    adaptive="tolerance",
    tried=lambda evaluations, grids: [ProbabilityFlowODE(steps=2, tolerance=1e-2, grid=grids.even)],
)
def adaptive_ode(x: Tensor, sigmas: Sequence[float], model: DenoisingModel, *, tolerance: float) -> Steps:
    """Adaptive steps between two σ, as many as the tolerance requires; one Euler step from the last σ to 0.

    tolerance: largest error of a step, as the root mean square over an image's values, each relative to 1 + |value|.
    Each image has its own steps; images that are still between the two σ are evaluated together. The solver restarts at
    each σ between the first and the last, which costs two evaluations. Raises DivergedError.
    """
    for sigma, sigma_next in pairwise(sigmas):
        x, _, score = yield x, sigma

        def slope(sigma: Tensor, y: Tensor, rows: Tensor, like: Tensor = x) -> Tensor:
            each = sigma.to(like).view(-1, 1, 1, 1)
            _, score = model(y.to(like), each, rows.to(like.device))
            return in_float64(-each * score)

        x = solve(
            slope,
            in_float64(x),
            sigma,
            sigma_next,
            tolerance=tolerance,
            norm=rms_error,
            first=in_float64(-sigma * score),
        ).to(x)
    x, denoised, _ = yield x, sigmas[-1]
    return denoised
