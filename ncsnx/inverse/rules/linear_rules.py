"""Rules for linear maps, which need A and Aᴴ but no gradient of the network."""

from typing import cast

import torch
from torch import Tensor

from ncsnx.inverse.maps.measurement_map import LinearMap, MeasurementMap
from ncsnx.inverse.rules.conjugate_gradients import solved
from ncsnx.inverse.rules.guidance import Guidance
from ncsnx.samplers.state import Score

_ITERATIONS = 20
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
        ridge = (self.deviation**2 / variance).clamp_min((_LEAST_NOISE * self.norm) ** 2)
        return solved(self.linear.normal, ridge, self.back(x), iterations=_ITERATIONS, tolerance=_TOLERANCE)

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int) -> Tensor:
        """x as it is; a result (σ = 0) under an exact measurement moves to the nearest image that satisfies it."""
        if isinstance(sigma, Tensor) or sigma > 0 or self.deviation > 0:
            return x
        scale = self.white - self.black
        everywhere = torch.ones(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)
        return x + scale * self.corrected((x - self.black) / scale, everywhere)


class AnnealedLikelihood(LinearGuidance):
    """`langevin`: g = Aᴴ (y − A x) / (γ² + σ² ‖A‖²), the annealed likelihood score.

    Source: Jalal et al. 2021 (arXiv 2108.01368), equation 4, whose σ² is here σ² ‖A‖²: for ‖A‖ = 1 it is theirs, and
    other units of the measurement give the same images. So g never changes by more than 1/σ² of a change of x, and a
    step that is stable without a measurement is stable with it.

    Limits: it is the likelihood score of a flat prior only where all singular values are equal, and weaker than that
    along small ones. Langevin steps reach the posterior if they are many at the last levels; samplers that go through
    every σ once (`dpmpp`, `heun`, …) carry the error at large σ to the result.
    """

    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        return score(x, sigma), self.back(x) / (self.deviation**2 + (sigma * self.norm) ** 2)


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
