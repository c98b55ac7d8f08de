"""Sampling that starts below the first level: from a given image with noise of a chosen level.

As in SDEdit (Meng et al. 2021, arXiv 2108.01073) and the reconstruction of magnetic resonance by Jalal et al. 2021
(arXiv 2108.01368): levels above the chosen one are left out.
"""

from collections.abc import Callable, Sequence
from math import isfinite, log
from typing import Any

import attrs
from torch import Tensor

from ncsnx.errors import UsageError
from ncsnx.quantities import number
from ncsnx.randomness import Purpose, Stream
from ncsnx.spelling import parameter

SAME = 1e-6
"""Largest relative difference of levels that count as one."""


@attrs.frozen(eq=False, kw_only=True)
class StartImages:
    """Images to start from, and the noise that is added to them."""

    sigma: float
    """σ of the noise, in the network's range."""
    images: Tensor
    """(P, C, H, W), where black is 0 and white 1."""
    facts: dict[str, Any]
    """JSON values of the images, for the protocol."""

    def levels(self, trained: Sequence[float], *, any_sigma: bool) -> tuple[float, ...]:
        """The trained levels below σ, after σ itself; without the first of them if σ is nearer to it than half a step.

        Unless the network takes any σ, those from the nearest trained level on. Raises UsageError for σ outside the
        trained levels.
        """
        high, low = trained[0], trained[-1]
        if not isfinite(self.sigma) or not low * (1 - SAME) <= self.sigma <= high * (1 + SAME):
            raise UsageError(
                f"{parameter('start_sigma')} must be from {number(low)} to {number(high)}, the trained levels, not "
                f"{self.sigma:g}"
            )
        if any_sigma:
            below = [level for level in trained if level < self.sigma * (1 - SAME)]
            if len(below) > 1 and (self.sigma / below[0]) ** 2 < below[0] / below[1]:
                below = below[1:]  # that step would hardly change an image, and `cas` would extrapolate it far
            return self.sigma, *below
        nearest = min(range(len(trained)), key=lambda place: abs(log(trained[place] / self.sigma)))
        return tuple(trained[nearest:])

    def initial(
        self, seed: int, sigma: float, from_unit: Callable[[Tensor], Tensor], alternatives: int | None
    ) -> Callable[[Tensor], Tensor]:
        """indices → image + σ z. Image i starts from picture i // alternatives, or from picture i mod P without them.

        from_unit: the data transform.
        """
        count = len(self.images)

        def initial(indices: Tensor) -> Tensor:
            places = indices % count if alternatives is None else indices // alternatives % count
            chosen = from_unit(self.images[places.cpu()].float()).to(indices.device)
            noise = Stream(seed, Purpose.INITIAL_SAMPLE).normal(indices, tuple(chosen.shape[1:]))
            return chosen + sigma * noise

        return initial
