"""Drives a sampler: evaluates, counts, gives states, and brings in what was measured, of which a sampler knows nothing.

What is measured exactly, or with less noise than σ has, is put in its place before each evaluation at σ. Of what is
measured with more noise the target is p(x at σ | y), whose score is s + g, g = ∇ log p(y | x at σ). In v = σ² the noisy
x is a Markov chain up to the measurement; given y it follows dx = g dv + dw, so that the density π of the target obeys

    ∂π/∂v = −∇·(g π) + ½ Δπ.

A sampler that is told the score s + g moves its x as the second term says, whatever noise it draws. The driver adds the
first, the transport x ← x + (σ'² − σ²) g, when it arrives at σ'. So a Langevin step, which stays at its σ, is drawn to
the measurement by all of g; the reverse Markov chain, x + (σ² − σ'²) s + √(σ² − σ'²) z, not at all, since x knows all
that the noisier measurement says; and solvers of the flow are drawn away from it, by half of g.
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
    """A state for each evaluation, and the result.

    start: begins the sampler at its x. alone: each image is sampled by itself, for samplers that would else choose the
    steps of an image by the others; these still begin their steps at the same σ, where they are evaluated together, and
    what is evaluated inside a step gives no state.
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
        # copies, as a sampler may change what it is given in place
        replies = [(x[rows].clone(), denoised[rows].clone(), s[rows].clone()) for rows in parts]


def _advance(routine: Steps, reply: Reply | None) -> tuple[bool, Tensor, float]:
    """(whether it ended, x, σ) of the next step."""
    try:
        x, sigma = next(routine) if reply is None else routine.send(reply)
    except StopIteration as end:
        if end.value is None:
            raise NcsnxError("a sampler must return its last x, and this one returned none") from None
        x, sigma = end.value if isinstance(end.value, tuple) else (end.value, 0.0)
        return True, x, sigma
    return False, x, sigma


@attrs.define(eq=False)
class _Draws:
    """The next draw of noise, for some rows of the batch."""

    noise: Noise
    rows: slice
    used: int = 0

    def __call__(self) -> Tensor:
        self.used += 1
        return self.noise(self.used - 1)[self.rows]


@attrs.define(eq=False)
class _Batch:
    """Where a batch of images is, what was evaluated, and what is measured of it."""

    score: Score
    constrain: Constrain | None
    images: int
    states: int = 0
    """States given so far."""
    evaluated: int = 0
    """Images evaluated so far, each as often as it was."""
    sigma: float = 0.0
    """σ of the last arrival."""
    guidance: Tensor | None = None
    """Likelihood score g of the last arrival; None where nothing is measured."""

    def arrive(self, x: Tensor, sigma: float) -> tuple[State, Reply]:
        """The state where a step begins, and what the sampler is told."""
        x = self._measured(self._transported(x, sigma), sigma, self.constrain, self.states)
        state, s = self._evaluate(x, sigma)
        if self.constrain is None:
            return state, (x, state.denoised, s)
        self.sigma, self.guidance = sigma, self.constrain.likelihood_score(x, sigma)
        return state, (x, state.denoised + sigma**2 * self.guidance, s + self.guidance)

    def inside(self, rows: slice, states: list[State] | None, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """(denoised, score) at a place inside a step of some rows; what is measured is brought into a copy of it.

        states: what its state is added to; where it gives none, it has the noise of the step's beginning.
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
        """The last state: x, with the noise of σ that is left in it; with exact measurements in it where that is 0."""
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
