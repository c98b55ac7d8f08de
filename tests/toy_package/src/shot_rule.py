"""Shot noise as a rule: the variance of a measured value grows with the value, as of counted photons."""

import attrs
from torch import Tensor

from ncsnx.inverse import LikelihoodRule, LinearOperator, rule
from ncsnx.samplers.state import Score, tweedie


@rule("shot", fits=LinearOperator)
@attrs.frozen(eq=False, kw_only=True)
class ShotNoise(LikelihoodRule):
    """Noise of γ √y for a measurement y: γ is the noise of white."""

    map: LinearOperator

    def scores(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        s = score(x, sigma)
        seen = self.map.apply(tweedie(x, sigma, s))
        level = (sigma * self.norm).view(-1, *[1] * (seen.dim() - 1))
        variances = self.noise**2 * seen.clamp(min=0) + level**2
        return s, self.map.adjoint((self.y - seen) / variances)
