"""Consistent annealed sampling: Jolicoeur-Martineau et al. 2020 (arXiv 2009.05475), algorithm 2.

Annealed Langevin dynamics leaves more noise in x than σ of its level. Here the added noise is chosen so that exactly
the noise of the next level remains. That holds if the denoised image D doesn't depend on x (data at a single point),
but not for data with a spread. For N(m, s²), D = m + K (x − m) with K = s²/(s² + σ²), and at constant σ

    x' − m = (1 − η (1 − K)) (x − m) + √(2η − η²) σ z    has the variance    (s² + σ²) (2 − η)/(2 − η (1 − K)),

which for σ → 0 is (1 − η/2) s² instead of s²: a Langevin step of size ησ² needs noise of variance 2ησ² and here gets
(2η − η²) σ². Since η is the same at every level, more levels don't change that. The weights of a mixture's modes are
wrong too.

With order 2 the step goes towards the denoised image extrapolated from the last two evaluations to the middle of the
step in ln σ, as in DPM-Solver++ (arXiv 2211.01095, algorithm 2). That restores s² for every η: for σ → 0 a step repeats
η/2 of the last change, so that each change, and with it the variance, is multiplied by
1 + η/2 + (η/2)² + … = 1/(1 − η/2). With η = 1 no noise is carried over from level to level. Such noise is what breaks
deterministic solvers for a network that isn't conditioned on σ.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from ncsnx.config.sampler import ConsistentAnnealed
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted
from ncsnx.samplers.contract import Draw, Grids, Steps, sampler


def _tried(evaluations: int, grids: Grids) -> list[ConsistentAnnealed]:
    return [
        ConsistentAnnealed(steps=evaluations, order=1, grid=grids.even),
        ConsistentAnnealed(steps=evaluations, grid=grids.whole),
        ConsistentAnnealed(steps=evaluations, grid=grids.inner),
        ConsistentAnnealed(steps=evaluations, grid=grids.narrow),
    ]


@sampler(ConsistentAnnealed, tried=_tried, fewest=4)
def consistent_annealed(
    x: Tensor, sigmas: Sequence[float], noise: Draw, *, eta: float, eta_min: float | None, order: int
) -> Steps:
    """One step per level: x ← x + η (D − x) + β σ_{i+1} z with γ = σ_i/σ_{i+1}, β = √(1 − (1 − η)² γ²). Then denoises.

    With order 2, D is replaced by D + (D − D_before) h/2h_before, h = ln γ, from the second step on.
    eta: η = ε/σ_L², the share of the noise that a step removes; with 1, each level begins with fresh noise. eta_min:
    σ below which η = 1 − 1/γ, so that β = 0 and a step follows the flow; None: 0.
    order: 1 converges to (1 − η/2) times the variance of Gaussian data, for any number of levels; 2 to the variance.
    NFE: L. Raises NcsnxError if (1 − η) γ > 1: then more noise remains than the next level has.
    """
    lowest = eta_min or 0.0
    _require_enough(eta, [sigma for sigma in sigmas if sigma >= lowest])
    before: Tensor | None = None
    h_before = 0.0
    for sigma, sigma_next in pairwise(sigmas):
        h = math.log(sigma / sigma_next)
        share = eta if sigma >= lowest else 1 - sigma_next / sigma
        beta = math.sqrt(max(0.0, 1 - ((1 - share) * sigma / sigma_next) ** 2))
        x, denoised, score = yield x, sigma
        taken = sigma**2 * score
        if order == 2 and before is not None:
            taken = taken + (denoised - before) * h / (2 * h_before)
        x = x + share * taken + beta * sigma_next * noise()
        before, h_before = denoised, h
    x, denoised, _ = yield x, sigmas[-1]
    return denoised


def _require_enough(eta: float, sigmas: Sequence[float]) -> None:
    least = max((1 - sigma_next / sigma for sigma, sigma_next in pairwise(sigmas)), default=0.0)
    if eta < least - 1e-9:
        raise NcsnxError(
            f"sampler=cas with eta={eta:g} at {counted(len(sigmas), 'level')} leaves more noise than the next "
            "level has",
            Hint("use more levels, or at least", adds=f"sampler.eta={math.ceil(100 * least) / 100:g}"),
        )
