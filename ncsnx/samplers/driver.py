"""The driver of a sampler: evaluates the network, counts, yields states, and applies measurements.

Measurements that are exact, or less noisy than σ, are put in place before each evaluation at σ. For noisier ones the
target is p(x at σ | y), whose score is s + g with the likelihood score g = ∇ log p(y | x at σ). In v = σ², the noisy x
is a Markov chain up to the measurement. Given y it follows dx = g dv + dw, so that the density π of the target obeys

    ∂π/∂v = −∇·(g π) + ½ Δπ.

A sampler that gets the score s + g accounts for the second term, whatever noise it draws. The driver accounts for the
first, the transport x ← x + (σ'² − σ²) g, on arrival at σ'. In total, a Langevin step, which stays at its σ, moves by
all of g. The reverse Markov chain, x + (σ² − σ'²) s + √(σ² − σ'²) z, doesn't move by g, since x already contains all
information of the noisier measurement. Solvers of the flow move by −g/2.

That is so where the noise of the level contains the measurement's (`Constrain.transports`). Where the two are
independent, x at σ given y is x_0 given y with noise of σ, as for images without a measurement: the score is s + g, and
there is no transport.
"""

from collections.abc import Callable, Iterator
from functools import partial

import attrs
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.samplers.contract import DenoisingModel, Draw, Reply, Steps
from ncsnx.samplers.state import Constrain, Noise, Score, State


@torch.no_grad()
def drive(
    start: Callable[[Tensor, Draw, DenoisingModel], Steps],
    score: Score,
    x: Tensor,
    *,
    noise: Noise,
    constrain: Constrain | None = None,
    adaptive: bool = False,
) -> Iterator[State]:
    """Yields a state per evaluation, and the result.

    start: calls the sampler with its initial x. adaptive: images have steps of their own; evaluations inside a step
    yield no state, since they are at a σ of their own for each image, and some are of a part of the images.
    """
    batch = _Batch(score, constrain, len(x))
    inner: list[State] = []
    routine = start(x.clone(), _Draws(noise), batch.inside_adaptive if adaptive else partial(batch.inside, inner))
    reply: Reply | None = None
    while True:
        is_last, x, sigma = _advance(routine, reply)
        yield from inner
        inner.clear()
        if is_last:
            yield batch.result(x, sigma)
            return
        state, (x, denoised, s) = batch.arrive(x, sigma)
        yield state
        reply = x.clone(), denoised.clone(), s.clone()  # copies, since a sampler may change them in place


def _advance(routine: Steps, reply: Reply | None) -> tuple[bool, Tensor, float]:
    """(whether the sampler ended, x, σ) at its next step."""
    try:
        x, sigma = next(routine) if reply is None else routine.send(reply)
    except StopIteration as end:
        if end.value is None:
            raise NcsnxError("a sampler must return its last x, but this one returned None") from None
        x, sigma = end.value if isinstance(end.value, tuple) else (end.value, 0.0)
        return True, x, sigma
    return False, x, sigma


@attrs.define(eq=False)
class _Draws:
    """Draws of noise in order."""

    noise: Noise
    used: int = 0

    def __call__(self) -> Tensor:
        self.used += 1
        return self.noise(self.used - 1)


@attrs.define(eq=False)
class _Batch:
    """The progress of a batch of images, with their measurement."""

    score: Score
    constrain: Constrain | None
    images: int
    states: int = 0
    """Number of states yielded so far."""
    evaluated: int = 0
    """Number of evaluations so far, summed over the images."""
    sigma: float = 0.0
    """σ at the last arrival."""
    guidance: Tensor | None = None
    """Likelihood score g at the last arrival; None without a measurement."""

    def arrive(self, x: Tensor, sigma: float) -> tuple[State, Reply]:
        """The state at the beginning of a step, and the reply to the sampler."""
        x = self._measured(self._transported(x, sigma), sigma, self.constrain, self.states)
        state, s, guidance = self._evaluate(x, sigma)
        if guidance is None:
            return state, (x, state.denoised, s)
        self.sigma, self.guidance = sigma, guidance
        return state, (x, state.denoised + sigma**2 * guidance, s + guidance)

    def inside(self, states: list[State], x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """(denoised, score) inside a step; measurements are put into a copy of x.

        states: list that the state is appended to.
        """
        at = self._measured(self._transported(x, sigma), sigma, self.constrain, self.states)
        state, s, guidance = self._evaluate(at, sigma)
        states.append(state)
        return (state.denoised, s) if guidance is None else self._guided(x, sigma, s + guidance)

    def inside_adaptive(
        self, x: Tensor, sigma: float | Tensor, rows: Tensor | slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """(denoised, score) inside a step of an adaptive sampler, for the images `rows` of the batch, without a state.

        The measurement's noise is that of the beginning of the step.
        """
        constrain = None if self.constrain is None else self.constrain.of(rows)
        at = self._measured(self._transported(x, sigma, rows), sigma, constrain, self.states - 1)
        s, guidance = self._scored(at, sigma, constrain)
        return self._guided(x, sigma, s if guidance is None else s + guidance)

    def result(self, x: Tensor, sigma: float) -> State:
        """The last state: x with the remaining noise of σ. If σ is 0, exact measurements are put in place."""
        x = self._transported(x, sigma)
        if sigma == 0:
            x = self._measured(x, 0.0, self.constrain, self.states)
        return State(self.states, sigma, x, denoised=x, evaluations=self.evaluated / self.images)

    @staticmethod
    def _guided(x: Tensor, sigma: float | Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(denoised image of the sampler's x, score), with a score that contains the likelihood score."""
        return x + sigma**2 * s, s

    def _transported(self, x: Tensor, sigma: float | Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        if self.guidance is None or self.constrain is None or not self.constrain.transports:
            return x
        return x + (sigma**2 - self.sigma**2) * self.guidance[rows]

    @staticmethod
    def _measured(x: Tensor, sigma: float | Tensor, constrain: Constrain | None, step: int) -> Tensor:
        return x if constrain is None else constrain(x, sigma, step)

    def _scored(self, x: Tensor, sigma: float | Tensor, constrain: Constrain | None) -> tuple[Tensor, Tensor | None]:
        """(score, likelihood score or None): one evaluation."""
        self.evaluated += len(x)
        return (self.score(x, sigma), None) if constrain is None else constrain.guided(self.score, x, sigma)

    def _evaluate(self, x: Tensor, sigma: float) -> tuple[State, Tensor, Tensor | None]:
        s, guidance = self._scored(x, sigma, self.constrain)
        state = State(self.states, sigma, x, denoised=x + sigma**2 * s, evaluations=self.evaluated / self.images)
        self.states += 1
        return state, s, guidance
