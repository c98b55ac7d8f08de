"""What a sampler is: a generator of states, fed with a score, levels and noise.

    for state in sampler(score, x, sigmas, noise=noise):
        ...

A new sampler is one function of this form. Progress, frames and the final image are consumers of its states.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

import attrs
from torch import Tensor

Score: TypeAlias = Callable[[Tensor, float], Tensor]
"""s(x, σ), of the shape of x: (B, C, H, W)."""

Noise: TypeAlias = Callable[[int], Tensor]
"""The k-th draw of unit normal noise, k = 0, 1, …; of the shape of x."""


class Constrain(Protocol):
    """What is known of a batch of images, of which the samplers make use."""

    def __call__(self, x: Tensor, sigma: float, step: int) -> Tensor:
        """x with what is known put in its place: before each evaluation, and with σ = 0 in a result without noise."""

    def pull(self, x: Tensor, sigma: float) -> Tensor | float:
        """∇ log p(what is known | x), where it isn't put in its place: what a Langevin step at σ adds to the score.

        The reverse Markov chain goes without: given x, what is known with more noise than x has says nothing new.
        """


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
    """A sampler with its settings closed over."""

    def __call__(
        self,
        score: Score,
        x: Tensor,
        sigmas: Sequence[float],
        *,
        noise: Noise,
        constrain: Constrain | None = None,
    ) -> Iterator[State]:
        """States from x on; the last one is the result. `sigmas` are decreasing."""
        ...
