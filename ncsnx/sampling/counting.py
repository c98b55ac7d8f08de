"""How many evaluations images took: a consumer of states that keeps count, for solvers that choose their steps."""

from collections.abc import Sequence

import attrs

from ncsnx.samplers.state import State


@attrs.define(eq=False)
class EvaluationCounter:
    """Give it to `generate` as on_state."""

    _found: dict[int, tuple[int, float]] = attrs.field(factory=dict, init=False)

    def __call__(self, indices: Sequence[int], state: State) -> None:
        """Of a batch, the last state counts."""
        self._found[indices[0]] = len(indices), state.evaluations

    def of(self, indices: Sequence[int]) -> float:
        """Those of an image of a batch that is done."""
        return self._found[indices[0]][1]

    @property
    def mean(self) -> float:
        """An image's evaluations; 0 where there are no images."""
        images = sum(count for count, _ in self._found.values())
        return sum(count * evaluations for count, evaluations in self._found.values()) / max(images, 1)
