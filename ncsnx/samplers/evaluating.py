"""What every sampler does between two of its updates: constrain x, evaluate the score there, and give the state."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from ncsnx.samplers.state import Constrain, Score, State


class Evaluations:
    """Evaluates a score, and counts."""

    def __init__(self, score: Score, constrain: Constrain | None = None) -> None:
        self._score = score
        self._constrain = constrain
        self._states = 0
        self.count: float = 0
        """Of an image, so far; a sampler that makes more of them between two states adds those."""

    def __call__(self, x: Tensor, sigma: float) -> tuple[State, Tensor]:
        """The state at x, constrained, and the score there."""
        step = self._states
        if self._constrain is not None:
            x = self._constrain(x, sigma, step)
        s = self._score(x, sigma)
        self.count += 1
        self._states += 1
        return State(step, sigma, x, denoised=x + sigma**2 * s, evaluations=self.count), s

    def pulled(self, value: Tensor, state: State, weight: float = 1.0) -> Tensor:
        """value + weight · the pull of what is known at the state; the value itself where nothing is known.

        weight: 1 for a score, else what the step multiplies the score of its Langevin share with.
        """
        if self._constrain is None or weight <= 0:
            return value
        return value + weight * self._constrain.pull(state.x, state.sigma)

    def result(self, x: Tensor, sigma: float = 0.0) -> State:
        """The last state: x, with the noise of σ that is left in it; constrained where that is none."""
        if self._constrain is not None and sigma == 0:
            x = self._constrain(x, 0.0, self._states)
        return State(self._states, sigma, x, denoised=x, evaluations=self.count)


def langevin_share(taken: float, sigma: float, sigma_next: float) -> float:
    """The part of a step to the next level that is a Langevin step, in [0, 1]. taken: its share of the way to D.

    The reverse Markov chain goes 1 − σ'²/σ² of the way; what a step goes beyond that, it makes good with fresh noise,
    which is what a Langevin step does (Song et al. 2021, arXiv 2011.13456; Karras et al. 2022, equation 6). A solver
    without noise goes less far, 1 − σ'/σ: its share would be below 0, a push away, and counts as 0.
    """
    return max(0.0, 1 - (1 - (sigma_next / sigma) ** 2) / taken)


def to_zero(sigmas: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Each σ with the next; the last one with 0."""
    return pairwise((*sigmas, 0.0))
