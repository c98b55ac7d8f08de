"""What every sampler does between two of its updates: constrain x, evaluate the score there, and give the state."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from ncsnx.sampling.state import Constrain, Score, State


class Evaluations:
    """Evaluates a score, and counts."""

    def __init__(self, score: Score, constrain: Constrain | None = None) -> None:
        self._score = score
        self._constrain = constrain
        self.count = 0

    def __call__(self, x: Tensor, sigma: float) -> tuple[State, Tensor]:
        """The state at x, constrained, and the score there."""
        if self._constrain is not None:
            x = self._constrain(x, sigma, self.count)
        s = self._score(x, sigma)
        state = State(self.count, sigma, x, denoised=x + sigma**2 * s, evaluations=self.count + 1)
        self.count += 1
        return state, s

    def result(self, x: Tensor, sigma: float = 0.0) -> State:
        """The last state: x, with the noise of σ that is left in it."""
        return State(self.count, sigma, x, denoised=x, evaluations=self.count)


def to_zero(sigmas: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Each σ with the next; the last one with 0."""
    return pairwise((*sigmas, 0.0))
