"""The probability-flow ODE by a solver that chooses its steps: Song et al. 2021 (arXiv 2011.13456), section 4.3 and
equation 13, with σ for the time: dx/dσ = −σ s(x, σ)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from ncsnx.config.sampler import ProbabilityFlowODE
from ncsnx.samplers.contract import DenoisingModel, Steps, sampler
from ncsnx.samplers.dormand_prince import of_the_worst_image, solve


@sampler(
    ProbabilityFlowODE,
    adaptive="tolerance",
    tried=lambda evaluations, grids: [ProbabilityFlowODE(steps=2, tolerance=1e-2, grid=grids.even)],
)
def adaptive_ode(x: Tensor, sigmas: Sequence[float], model: DenoisingModel, *, tolerance: float) -> Steps:
    """Between two σ the solver takes the steps that the tolerance asks for; from the last σ one step of Euler's to 0.

    tolerance: of a step, on the root mean square over an image's values, absolutely or relative to the value. Two
    evaluations more at each σ between the first and the last than without a stop, since the solver starts there anew.
    Raises DivergedError.
    """
    for sigma, sigma_next in pairwise(sigmas):
        x, _, score = yield x, sigma
        known = [-sigma * score]  # the slope that the solver asks for first

        def slope(sigma: float, y: Tensor, like: Tensor = x, known: list[Tensor] = known) -> Tensor:
            found = known.pop() if known else -sigma * model(y.to(like), sigma)[1]
            return found.cpu().double()

        y = x.cpu().double()
        x = solve(slope, y, sigma, sigma_next, tolerance=tolerance, norm=of_the_worst_image).to(x)
    x, denoised, _ = yield x, sigmas[-1]
    return denoised
