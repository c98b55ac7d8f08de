"""What a sampler gives, and what it is given: a stream of states, from a score, levels and noise.

    for state in build_sampler(config)(score, x, sigmas, noise=noise):
        ...

Progress, frames and the final image are consumers of the states. How a sampler is written: `ncsnx.samplers.contract`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self, TypeAlias

import attrs
from torch import Tensor

from ncsnx.config.sampler import Sampler

Score: TypeAlias = Callable[[Tensor, float], Tensor]
"""s(x, σ), of the shape of x: (B, C, H, W)."""

Noise: TypeAlias = Callable[[int], Tensor]
"""The k-th draw of unit normal noise, k = 0, 1, …; of the shape of x."""


class Constrain(Protocol):
    """What was measured of a batch of images."""

    def __call__(self, x: Tensor, sigma: float, step: int) -> Tensor:
        """x with what is measured put in its place, as noisy as σ; with σ = 0 in a result without noise.

        step: the number of the noise that it draws.
        """

    def likelihood_score(self, x: Tensor, sigma: float) -> Tensor:
        """∇ log p(measurement | x) at σ, along what isn't put in its place; of the shape of x."""

    def of(self, rows: slice) -> Self:
        """The same of some of the images."""

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a sampler that doesn't draw from the posterior under such a measurement."""


@attrs.frozen(eq=False)
class State:
    """Where a sampler is, at the moment when the score at `x` is known and the update not yet made."""

    step: int
    """0 for the first state of a sampler, then counting up by one."""
    sigma: float
    """σ of the evaluation; of the last state, the noise that is left: 0 where it was denoised."""
    x: Tensor
    """(B, C, H, W), in the network's range (that of the data transform). The last state's is the result."""
    denoised: Tensor
    """x + σ² s(x, σ), the mean of what could have become x (Tweedie's formula); in the last state x."""
    evaluations: float
    """Network evaluations per image so far; the mean over the batch, where each image takes a number of its own."""


class SamplerFunction(Protocol):
    """A sampler with its settings, ready to be driven; `build_sampler` makes it."""

    def __call__(
        self,
        score: Score,
        x: Tensor,
        sigmas: Sequence[float],
        *,
        noise: Noise,
        constrain: Constrain | None = None,
    ) -> Iterator[State]:
        """States from x on; the last one is the result. `sigmas` are decreasing: those of the network."""
        ...
