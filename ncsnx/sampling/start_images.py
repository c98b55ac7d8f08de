"""Sampling that starts below the first level: from a given image with noise of a chosen level.

As in SDEdit (Meng et al. 2021, arXiv 2108.01073) and the reconstruction of magnetic resonance by Jalal et al. 2021
(arXiv 2108.01368): levels above the chosen one are left out.
"""

import hashlib
from collections.abc import Callable, Sequence
from math import isfinite, log
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.errors import UsageError
from ncsnx.quantities import counted, number
from ncsnx.randomness import Purpose, Stream
from ncsnx.spelling import parameter

_SAME = 1e-6  # relative difference of levels that count as one


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
        """The trained levels below σ, after σ itself, or from the nearest trained level on unless the network takes any
        σ. Raises UsageError for σ outside the trained levels."""
        high, low = trained[0], trained[-1]
        if not isfinite(self.sigma) or not low * (1 - _SAME) <= self.sigma <= high * (1 + _SAME):
            raise UsageError(
                f"{parameter('start_sigma')} must be from {number(low)} to {number(high)}, the trained levels, not "
                f"{self.sigma:g}"
            )
        if any_sigma:
            return self.sigma, *(level for level in trained if level < self.sigma * (1 - _SAME))
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


def level_in_words(start: StartImages, levels: Sequence[float], trained: Sequence[float]) -> str:
    """The level that sampling starts at, as text."""
    begin = f"starts at σ = {number(levels[0])}"
    if abs(levels[0] - start.sigma) > _SAME * start.sigma:
        begin += f", the trained level nearest to {number(start.sigma)}"
    return f"{begin}, with {len(levels):,} of {counted(len(trained), 'level')}"


def sha256_of_images(images: Tensor) -> str:
    """sha256 of start images, for the protocol."""
    return hashlib.sha256(torch.as_tensor(images).double().contiguous().numpy().tobytes()).hexdigest()
