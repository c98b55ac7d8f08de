"""Types of sampling: a sampler turns a model, levels and noise into a stream of states.

    for state in build_sampler(config)(model, x, sigmas, noise=noise):
        ...

Progress, frames and the final image are consumers of the states. `ncsnx.samplers.contract` says how to write a sampler.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeAlias

import attrs
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.networks.contract import NO_COND, Cond

ScaledScore: TypeAlias = Callable[[Tensor, Tensor, Cond], Tensor]
"""σ · s(x, σ), of the shape of x, (B, C, H, W), at the σ of each image, (B,): what networks give."""

Score: TypeAlias = Callable[[Tensor, Any], Tensor]
"""s(x, σ), of the shape of x: (B, C, H, W). σ is a float, or for adaptive samplers (B, 1, 1, 1), one of each image."""

Noise: TypeAlias = Callable[[int], Tensor]
"""The k-th draw of unit normal noise, k = 0, 1, …; of the shape of x."""


def score_of(model: ScaledScore, x: Tensor, sigma: float | Tensor, cond: Cond = NO_COND) -> Tensor:
    """s(x, σ) by one evaluation of the model. sigma: of all images, or of each, (B,) or (B, 1, 1, 1)."""
    # a number is filled in on the device, which as_tensor would wait for
    given = sigma.to(x) if isinstance(sigma, Tensor) else x.new_full((), sigma)
    each = given.reshape(-1).expand(len(x))
    return model(x, each, cond) / each.view(-1, 1, 1, 1)


def tweedie(x: Tensor, sigma: float | Tensor, s: Tensor) -> Tensor:
    """x + σ² s, the posterior mean of the image by the score s at x. sigma: of all images, or of each, (B,) or
    (B, 1, 1, 1)."""
    if isinstance(sigma, Tensor) and sigma.dim() == 1:
        sigma = sigma.view(-1, 1, 1, 1)
    return x + sigma**2 * s


@attrs.frozen(eq=False)
class State:
    """The state of a sampler after the score at `x` was evaluated and before x is updated."""

    step: int
    """Index of the state, from 0."""
    sigma: float
    """σ of the evaluation; in the last state, σ of the remaining noise: 0 after denoising."""
    x: Tensor
    """(B, C, H, W) in the network's range (that of the data transform); in the last state, the result."""
    denoised: Tensor
    """x + σ² s(x, σ), the posterior mean of the image (Tweedie's formula); in the last state x."""
    evaluations: float
    """Network evaluations per image so far; the mean over the batch for adaptive samplers."""


class Rule(Protocol):
    """How a sampler uses the measurement of a batch of images. σ is a float or, inside a step of an adaptive sampler,
    (B, 1, 1, 1).

    The network may be evaluated at another x than the sampler's. `last` is the state at the beginning of the step, None
    before the first.
    """

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int, last: State | None) -> Tensor:
        """The network's x for the sampler's, with the measurement in it; for σ = 0, a result without noise.

        step: number of the noise draw.
        """
        return x

    def released(self, x: Tensor, last: State) -> Tensor:
        """The sampler's x for the network's, `x`, where a step begins. last: this beginning."""
        return x

    def followed(self, x: Tensor, at: Tensor, sigma: float | Tensor, s: Tensor, last: State | None) -> Tensor:
        """The score that the sampler follows from its x inside a step. s: the network's at its x, `at`."""
        return s

    def scored(self, score: Score, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor | float]:
        """The score s(x, σ), by one call of `score`, and the likelihood score ∇ log p(measurement | x) at σ.

        x: the network's. Both have its shape. The likelihood score is 0 where the measurement is in x.
        """
        return score(x, sigma), 0.0

    def of(self, rows: slice | Tensor) -> Self:
        """The rule of some of the images. rows: a slice, or indices (B',) int64."""

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        """Raises NcsnxError for a sampler that doesn't draw from the posterior under this measurement."""
        return


SamplerFunction: TypeAlias = Callable[..., Iterator[State]]
"""A sampler with its settings, made by `build_sampler`."""
