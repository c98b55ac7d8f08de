"""The driver of a sampler: evaluates the network, counts, yields states, and applies measurements.

Measurements that are exact, or less noisy than σ, are put in place before each evaluation at σ. For noisier ones the
target is p(x at σ | y), whose score is s + g with the likelihood score g = ∇ log p(y | x at σ). In v = σ², the noisy x
is a Markov chain up to the measurement. Given y it follows dx = g dv + dw, so that the density π of the target obeys

    ∂π/∂v = −∇·(g π) + ½ Δπ.

A sampler that gets the score s + g accounts for the second term, whatever noise it draws. The driver accounts for the
first, the transport x ← x + (σ'² − σ²) g, on arrival at σ'. In total, a Langevin step, which stays at its σ, moves by
all of g. The reverse Markov chain, x + (σ² − σ'²) s + √(σ² − σ'²) z, doesn't move by g, since x already contains all
information of the noisier measurement. Solvers of the flow move by −g/2.
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
    alone: bool = False,
) -> Iterator[State]:
    """Yields a state per evaluation, and the result.

    start: calls the sampler with its initial x. alone: samples each image separately, for adaptive samplers, whose
    steps for an image would otherwise depend on the others. Their steps still begin at the same σ for all images, which
    are evaluated together there; evaluations inside a step yield no state.
    """
    parts = [slice(row, row + 1) for row in range(len(x))] if alone else [slice(0, len(x))]
    batch = _Batch(score, constrain, len(x))
    inner: list[State] = []
    routines = [
        start(x[rows].clone(), _Draws(noise, rows), partial(batch.inside, rows, None if alone else inner))
        for rows in parts
    ]
    replies: list[Reply | None] = [None for _ in parts]
    while True:
        ends = [_advance(routine, reply) for routine, reply in zip(routines, replies, strict=True)]
        yield from inner
        inner.clear()
        if len({(is_last, sigma) for is_last, _, sigma in ends}) > 1:
            raise NcsnxError("an adaptive sampler must begin its steps at the same σ for every image")
        is_last, _, sigma = ends[0]
        x = torch.cat([x for _, x, _ in ends])
        if is_last:
            yield batch.result(x, sigma)
            return
        state, (x, denoised, s) = batch.arrive(x, sigma)
        yield state
        # copies, since a sampler may change them in place
        replies = [(x[rows].clone(), denoised[rows].clone(), s[rows].clone()) for rows in parts]


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
    """Draws of noise in order, for some rows of the batch."""

    noise: Noise
    rows: slice
    used: int = 0

    def __call__(self) -> Tensor:
        self.used += 1
        return self.noise(self.used - 1)[self.rows]


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
        state, s = self._evaluate(x, sigma)
        if self.constrain is None:
            return state, (x, state.denoised, s)
        self.sigma, self.guidance = sigma, self.constrain.likelihood_score(x, sigma)
        return state, (x, state.denoised + sigma**2 * self.guidance, s + self.guidance)

    def inside(self, rows: slice, states: list[State] | None, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """(denoised, score) inside a step of some rows; measurements are put into a copy of x.

        states: list that the state is appended to. None: no state, and the measurement's noise is that of the beginning
        of the step.
        """
        if self.constrain is None:
            at, constrain = x, None
        else:
            constrain = self.constrain if states is not None else self.constrain.of(rows)
            number = self.states if states is not None else self.states - 1
            at = self._measured(self._transported(x, sigma, rows), sigma, constrain, number)
        state, s = self._evaluate(at, sigma, gives_state=states is not None)
        if states is not None:
            states.append(state)
        if constrain is None:
            return state.denoised, s
        s = s + constrain.likelihood_score(at, sigma)
        return x + sigma**2 * s, s

    def result(self, x: Tensor, sigma: float) -> State:
        """The last state: x with the remaining noise of σ. If σ is 0, exact measurements are put in place."""
        x = self._transported(x, sigma)
        if sigma == 0:
            x = self._measured(x, 0.0, self.constrain, self.states)
        return State(self.states, sigma, x, denoised=x, evaluations=self.evaluated / self.images)

    def _transported(self, x: Tensor, sigma: float, rows: slice = slice(None)) -> Tensor:
        return x if self.guidance is None else x + (sigma**2 - self.sigma**2) * self.guidance[rows]

    @staticmethod
    def _measured(x: Tensor, sigma: float, constrain: Constrain | None, step: int) -> Tensor:
        return x if constrain is None else constrain(x, sigma, step)

    def _evaluate(self, x: Tensor, sigma: float, gives_state: bool = True) -> tuple[State, Tensor]:
        s = self.score(x, sigma)
        self.evaluated += len(x)
        state = State(self.states, sigma, x, denoised=x + sigma**2 * s, evaluations=self.evaluated / self.images)
        self.states += gives_state
        return state, s
