"""Rules for linear maps, which need A and Aᴴ but no gradient of the network."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.errors import Hint, NcsnxError
from ncsnx.inverse.maps.measurement_map import LinearMap, MeasurementMap
from ncsnx.inverse.rules.conjugate_gradients import solved
from ncsnx.inverse.rules.guidance import Guidance
from ncsnx.samplers.building import run, sampler_levels
from ncsnx.samplers.contract import definition_of, sampler_code, sampler_name
from ncsnx.samplers.state import Score
from ncsnx.spelling import argument

_ITERATIONS = 20
_LAST_ITERATIONS, _TURNS = 50, 10
"""Steps of conjugate gradients for a result, and how often they alternate with the ends of the range."""
_TOLERANCE = 1e-4
_LEAST_NOISE = 1e-3
"""Smallest noise of a measurement, as a fraction of ‖A‖ times the uncertainty of the image: it bounds the condition
number at 10⁶, and leaves a thousandth of the misfit."""


class LinearGuidance(Guidance):
    """A linear map, of whose measurements Aᴴ y suffices: (B, C, H, W)."""

    @classmethod
    def prepared(cls, map: MeasurementMap, y: Tensor) -> Tensor:
        """Aᴴ y."""
        return cast("LinearMap", map).adjoint(y)

    @property
    def linear(self) -> LinearMap:
        """The map."""
        return cast("LinearMap", self.map)

    def back(self, x: Tensor) -> Tensor:
        """Aᴴ (y − A x)."""
        return self.given.to(x) - self.linear.normal(x)

    def corrected(self, x: Tensor, variance: Tensor) -> Tensor:
        """argmin_d ‖A (x + d) − y‖²/γ² + ‖d‖²/r² with the variances r², (B, 1, 1, 1), by conjugate gradients."""
        ridge = self._ridge(variance)
        return solved(self.linear.normal, ridge, self.back(x), iterations=_ITERATIONS, tolerance=_TOLERANCE)

    def _ridge(self, variance: Tensor) -> Tensor:
        """γ²/r², bounded from below."""
        return (self.deviation**2 / variance).clamp_min((_LEAST_NOISE * self.norm) ** 2)

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int) -> Tensor:
        """x as it is; but a result (σ = 0) under an exact measurement is brought to it.

        A noisy measurement isn't used again: the result is a draw from the posterior already. For bounded data, images
        between black and white and images that agree are approached in turns.
        """
        if isinstance(sigma, Tensor) or sigma > 0 or self.deviation > 0:
            return x
        scale = self.white - self.black
        u, ridge = (x - self.black) / scale, self._ridge(x.new_ones(len(x), 1, 1, 1))
        for _ in range(_TURNS if self.bounded else 1):
            u = u.clamp(0, 1) if self.bounded else u
            change = solved(self.linear.normal, ridge, self.back(u), iterations=_LAST_ITERATIONS, tolerance=_TOLERANCE)
            u = u + change
        return self.black + scale * u


class AnnealedLikelihood(LinearGuidance):
    """`langevin`: g = Aᴴ (y − A x) / (γ² + σ² ‖A‖²), the annealed likelihood score.

    Source: Jalal et al. 2021 (arXiv 2108.01368), equation 4, whose annealed variance is here σ² ‖A‖²: for ‖A‖ = 1 it is
    theirs, and other units of the measurement give the same images. So g changes by at most 1/σ² of a change of x, like
    the score, and both together by at most 2/σ².

    Limits: it is the likelihood score of a flat prior, and weaker than that along small singular values. At large σ,
    where the data's own spread counts, the measurement weighs too much. Langevin steps still reach the posterior if
    they are many at the last levels. Solvers of the flow would end without any spread along measured directions, and
    the steps of `cas` are too long for a slope of 2/σ²; they are refused.
    """

    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        return score(x, sigma), self.back(x) / (self.deviation**2 + (sigma * self.norm) ** 2)

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a sampler without noise, such as a solver of the flow, and for one that diverges."""
        super().admit(config, sigmas)
        if (found := _fault(config, sigmas)) is not None:
            raise NcsnxError(
                f"sampler={sampler_name(config)} cannot be used with rule langevin: {found}",
                Hint("use", adds=argument("rule", "cg")),
            )


def _fault(config: Sampler, sigmas: Sequence[float]) -> str | None:
    """The fault of a sampler under the annealed likelihood score, as a clause; None if it has none.

    Tried on a pixel, where score and likelihood score together have their steepest slope, 2/σ².
    """
    drawn, x = 0, torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def noise(k: int) -> Tensor:
        nonlocal drawn
        drawn += 1
        return torch.zeros_like(x)

    def steepest(x: Tensor, sigma: float | Tensor) -> Tensor:
        return -2 * x / sigma**2

    definition = definition_of(type(config))
    with sampler_code(type(config)):
        *_, last = run(definition, config, steepest, x, sampler_levels(config, sigmas), noise=noise)
    if not float(last.x.abs()) <= 1 + 1e-6:
        return "its steps are too long for it, and diverge"
    return None if drawn else "it draws no noise, and its images would have no spread along what was measured"


class DataConsistency(LinearGuidance):
    """`cg`: g = (D' − D)/σ² with D' = argmin ‖A x − y‖²/γ² + ‖x − D‖²/r², by conjugate gradients.

    Source: Chung et al. 2023 (arXiv 2303.05754) put D' in place of the denoised image D, by few steps of conjugate
    gradients; the weight of D is a free parameter there. Here it follows from g (see `ncsnx.inverse.rules.guidance`)
    with C = r², the choice of ΠGDM (Song et al. 2023), r² = σ² s²/(σ² + s²): with it, D' is the mean of x_0 given x_σ
    and y. Unlike ΠGDM, the derivative of D is taken to be r²/σ² as well, so that no gradient of the network is needed.

    Limits: C has one variance for all directions. Where the data is smoother than white noise, the measured directions
    are less certain at large σ than r² says, and what they say of their neighbours comes by the network alone, at
    smaller σ. At most 20 steps of conjugate gradients per evaluation.
    """

    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        s = score(x, sigma)
        return s, self.corrected(x + sigma**2 * s, self.posterior_variance(sigma)) / sigma**2
