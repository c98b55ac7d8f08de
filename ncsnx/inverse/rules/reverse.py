"""`reverse`: the reverse diffusion begins at a noisy picture."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Self, cast

import attrs
from torch import Tensor

from ncsnx.config.overrides import as_words
from ncsnx.config.sampler import DPMSolverPPSDE, EulerAncestral, Sampler
from ncsnx.errors import Hint, NcsnxError
from ncsnx.inverse.operators.measurement_map import NoisyPicture
from ncsnx.inverse.rules.contract import EXACT, REVERSE, Measured, rule
from ncsnx.samplers.building import first_sigma
from ncsnx.samplers.state import Rule, State
from ncsnx.spelling import argument

DENOISING = DPMSolverPPSDE(steps=20)


@rule(REVERSE, fits=NoisyPicture, any_noise=False, sampler=DENOISING, begins_at_noise=True, shortfall=None)
@attrs.frozen(eq=False)
class ReverseRule(Rule):
    """A noisy picture as the x of its own noise level, at which the sampler begins.

    From there, the reverse Markov chain draws from p(x_0 | y): its noise at the first level is that of the picture.
    Samplers of the same marginal laws by other steps don't: those that renew the noise forget the picture, and one of
    the flow gives a single image.
    """

    given: Tensor
    """The noisy pictures, (B, C, H, W) in the network's range."""
    deviation: float
    """σ of their noise."""

    @classmethod
    def under(cls, measured: Measured) -> Self:
        """The rule for a batch, whose map is a `NoisyPicture`."""
        picture, (black, white) = cast("NoisyPicture", measured.map), measured.space.ends
        given = picture.noisy(measured.values, measured.noise, partial(measured.draws, 0)).to(measured.device)
        return cls(black + (white - black) * given, (white - black) * picture.deviation(measured.noise))

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int, last: State | None = None) -> Tensor:
        """The pictures at the beginning, later x."""
        return self.given.to(x) if last is None else x

    def of(self, rows: slice | Tensor) -> Self:
        """The pictures of some of the images. rows: a slice, or indices (B',) int64."""
        return attrs.evolve(self, given=self.given[rows])

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a sampler that isn't the reverse Markov chain from the pictures' noise."""
        if not isinstance(config, DPMSolverPPSDE | EulerAncestral) or config.eta != 1:
            raise NcsnxError(
                f"{as_words(config)} doesn't follow the reverse diffusion of a noisy picture",
                Hint("use", adds="sampler=dpmpp-sde"),
                Hint("or the rule of other measurements", adds=argument("rule", EXACT)),
            )
        if not math.isclose(first := first_sigma(config, sigmas), self.deviation, rel_tol=1e-4):
            raise NcsnxError(
                f"expected a sampler that begins at the noise of the picture, σ = {self.deviation:.4g}; found "
                f"{first:.4g}"
            )
