"""A consumer of states that counts evaluations per image, for adaptive samplers."""

from collections.abc import Iterable, Sequence
from typing import Self

import attrs

from ncsnx.samplers.state import State


@attrs.define(eq=False)
class EvaluationCounter:
    """Evaluations per image of every batch; pass it to `generate` as on_state."""

    _found: dict[int, tuple[int, float]] = attrs.field(factory=dict, init=False)

    @classmethod
    def of_all(cls, counters: Iterable["EvaluationCounter"]) -> Self:
        """The batches of several counters together."""
        whole = cls()
        for one in counters:
            whole._found.update(one._found)
        return whole

    def __call__(self, indices: Sequence[int], state: State) -> None:
        """Records the evaluations so far of a batch."""
        self._found[indices[0]] = len(indices), state.evaluations

    def of(self, indices: Sequence[int]) -> float:
        """Evaluations per image of a finished batch."""
        return self._found[indices[0]][1]

    @property
    def mean(self) -> float:
        """Mean evaluations per image; 0 without images."""
        images = sum(count for count, _ in self._found.values())
        return sum(count * evaluations for count, evaluations in self._found.values()) / max(images, 1)
