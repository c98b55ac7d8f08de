"""The common part of all rules for measurement maps: the target, the units, and the calls of the driver.

The target at σ is p(x_σ | y) with x_σ = x_0 + σ z and noise z that is independent of the measurement's. Its score is
s(x, σ) + g(x, σ) with the likelihood score g = ∇ log p(y | x_σ), and a sampler with this score needs no more. (The
exact rule of `ncsnx.inverse.condition` has another target, in which the noise of the level contains the measurement's.)

For Gaussian data, x_0 given x_σ has the mean D(x, σ), the denoised image, and a covariance C, so that

    g = C/σ² Aᴴ (γ² + A C Aᴴ)⁻¹ (y − A D).

The rules differ in what they take for C.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.inverse.maps.measurement_map import MeasurementMap
from ncsnx.samplers.contract import require_noisy
from ncsnx.samplers.state import Score

SPREAD = 0.5
"""s, the standard deviation of images in [0, 1] that the rules assume: 1 for values from −1 to 1, as in ΠGDM (Song et
al. 2023, "Pseudoinverse-Guided Diffusion Models for Inverse Problems")."""


@attrs.frozen(eq=False, kw_only=True)
class Guidance(ABC):
    """A measurement by a map as the `constrain` argument of a sampler."""

    map: MeasurementMap
    """The map of the images of the batch."""
    given: Tensor
    """The measurements of each image, as `prepared` returns them."""
    deviation: float
    """γ, the standard deviation of the noise in y; of its real and of its imaginary part."""
    norm: float
    """‖A‖ of the whole map."""
    black: float = 0.0
    """Black in the network's range."""
    white: float = 1.0
    """White in the network's range."""
    bounded: bool = False
    """Whether images lie between black and white."""

    transports: ClassVar[bool] = False

    @classmethod
    def prepared(cls, map: MeasurementMap, y: Tensor) -> Tensor:
        """Measurements (P, *measured_shape) of images in [0, 1] in the form that the rule needs, (P, …)."""
        return y

    @abstractmethod
    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) at x, all for images in which black is 0 and white 1.

        sigma: (B, 1, 1, 1). It calls `score` once.
        """

    def guided(self, score: Score, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) at x, in the network's range."""
        scale = self.white - self.black

        def in_unit(u: Tensor, _: Tensor) -> Tensor:
            return scale * score(self.black + scale * u, sigma)

        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x), 1, 1, 1) / scale
        s, g = self.guide(in_unit, (x - self.black) / scale, level)
        return s / scale, g / scale

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int) -> Tensor:
        """x as it is: the likelihood score brings the measurement in."""
        return x

    def of(self, rows: slice | Tensor) -> Self:
        """The measurements of some of the images. rows: a slice, or indices (B',) int64."""
        places = torch.arange(len(self.given))[rows.cpu() if isinstance(rows, Tensor) else rows]
        return attrs.evolve(self, map=self.map.of(places), given=self.given[rows])

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a sampler that doesn't support noisy measurements."""
        require_noisy(config)

    def posterior_variance(self, sigma: Tensor) -> Tensor:
        """r² = σ² s²/(σ² + s²), the variance of x_0 given x_σ for independent values of standard deviation `SPREAD`."""
        return sigma**2 * SPREAD**2 / (sigma**2 + SPREAD**2)
