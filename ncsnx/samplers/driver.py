"""The driver of a sampler: evaluates the network, counts, yields states, and applies measurements.

A measurement comes in by two ways (`Rule`). A likelihood score g is added to the network's score, so that the
sampler follows s + g. Or the measurement is put into the x at which the network is evaluated, which then isn't the
sampler's: the measurement says how one follows from the other."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import attrs
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.networks.contract import NO_COND, Cond
from ncsnx.samplers.contract import DenoisingModel, Draw, Reply, Steps
from ncsnx.samplers.guidance import Guidance
from ncsnx.samplers.state import Noise, Rule, ScaledScore, State, score_of, tweedie


@torch.no_grad()
def drive(
    start: Callable[[Tensor, Draw, DenoisingModel], Steps],
    model: ScaledScore,
    x: Tensor,
    *,
    noise: Noise,
    cond: Cond = NO_COND,
    rule: Rule | None = None,
    guidance: Guidance | None = None,
    adaptive: bool = False,
) -> Iterator[State]:
    """Yields a state per evaluation, and the result.

    start: calls the sampler with its initial x. adaptive: images have steps of their own; evaluations inside a step
    yield no state, since they are at a σ of their own for each image, and some are of a part of the images.
    """
    batch = _Batch(model, cond, rule, guidance, len(x))
    inner: list[State] = []
    draw = partial(next, map(noise, count()))
    routine = start(x.clone(), draw, batch.inside_adaptive if adaptive else partial(batch.inside, inner))
    reply: Reply | None = None
    while True:
        is_last, x, sigma = _advance(routine, reply)
        yield from inner
        inner.clear()
        if is_last:
            yield batch.result(x, sigma)
            return
        state, s, likelihood = batch.evaluate(x, sigma)
        x, denoised, s = batch.reply(state, s, likelihood)
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
class _Batch:
    """The progress of a batch of images, with their measurement."""

    model: ScaledScore
    cond: Cond
    rule: Rule | None
    guidance: Guidance | None
    images: int
    states: int = 0
    """Number of states yielded so far."""
    evaluated: int = 0
    """Number of evaluations so far, summed over the images."""
    last: State | None = None
    """The state at the last arrival."""

    def reply(self, state: State, s: Tensor, likelihood: Tensor | float) -> Reply:
        """The reply to the sampler at the beginning of a step."""
        self.last, sigma = state, state.sigma
        if self.rule is None:
            return state.x, state.denoised, s
        x = self.rule.released(state.x, state)
        s = s + likelihood + (state.x - x) / sigma**2
        return x, state.denoised + sigma**2 * likelihood, s

    def inside(self, states: list[State], x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """(denoised, score) inside a step; measurements are put into a copy of x.

        states: list that the state is appended to.
        """
        state, s, likelihood = self.evaluate(x, sigma)
        states.append(state)
        if self.rule is not None:
            s = self.rule.followed(x, state.x, sigma, s + likelihood, self.last)
        return tweedie(x, sigma, s), s

    def inside_adaptive(
        self, x: Tensor, sigma: float | Tensor, rows: Tensor | slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """(denoised, score) inside a step of an adaptive sampler, for the images `rows` of the batch, without a state.

        The measurement's noise is that of the beginning of the step.
        """
        if self.rule is None:
            s, _ = self._scored(x, sigma, None, rows)
        else:
            rule, last = self.rule.of(rows), self.last
            if last is not None:
                last = attrs.evolve(last, denoised=last.denoised[rows])
            at = rule(x, sigma, self.states - 1, last)
            s, likelihood = self._scored(at, sigma, rule, rows)
            s = rule.followed(x, at, sigma, s + likelihood, last)
        return tweedie(x, sigma, s), s

    def result(self, x: Tensor, sigma: float) -> State:
        """The last state: x with the remaining noise of σ. If σ is 0, exact measurements are put in place."""
        if sigma == 0 and self.rule is not None:
            x = self.rule(x, sigma, self.states, self.last)
        return State(self.states, sigma, x, denoised=x, evaluations=self.evaluated / self.images)

    def _scored(
        self, x: Tensor, sigma: float | Tensor, rule: Rule | None, rows: Tensor | slice = slice(None)
    ) -> tuple[Tensor, Tensor | float]:
        """(score, likelihood score) of the images `rows`: one evaluation, or two with likelihood."""
        model = self.model
        if self.guidance is None:
            self.evaluated += len(x)
        else:
            model = self.guidance.at(self._counted, sigma)
        score = partial(score_of, model, cond={name: one[rows] for name, one in self.cond.items()})
        return (score(x, sigma), 0.0) if rule is None else rule.scored(score, x, sigma)

    def _counted(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """The model itself; counts its evaluations."""
        self.evaluated += len(x)
        return self.model(x, sigma, cond)

    def evaluate(self, x: Tensor, sigma: float) -> tuple[State, Tensor, Tensor | float]:
        """(state, score, likelihood score) for the sampler's x."""
        x = x if self.rule is None else self.rule(x, sigma, self.states, self.last)
        s, likelihood = self._scored(x, sigma, self.rule)
        state = State(self.states, sigma, x, denoised=tweedie(x, sigma, s), evaluations=self.evaluated / self.images)
        self.states += 1
        return state, s, likelihood
