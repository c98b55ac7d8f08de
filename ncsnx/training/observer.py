"""Events that the training loop reports to an observer."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ncsnx.exports.exported import Weights

TRAINING = "training"
EVALUATING = "evaluating"
CHECKPOINT = "writing a checkpoint"
SAMPLING = "sampling"
"""Recurring phases of training."""
COMPILING = "compiling"
"""The phase before the first step of a compiled training."""


class TrainingObserver(Protocol):
    """Receives the events of a training, and shows them. A step is done when the weights are updated."""

    def start(self, facts: Mapping[str, str]) -> None:
        """Training begins. facts: about it, label → value."""

    def finish(self, outcome: str = "finished") -> None:
        """Training has ended, with this outcome."""

    def phase(self, name: str) -> None:
        """A phase begins: one of the above, or another. Steps belong to TRAINING."""

    def warning(self, text: str) -> None:
        """A warning that doesn't end training."""

    def note(self, text: str) -> None:
        """A note for the log."""

    def step(self, step: int, images: int) -> None:
        """`step` is done and used `images` images. Called at every step, so it must take less than a microsecond."""

    def logged(self, step: int, loss: float, device_memory_bytes: int | None = None) -> None:
        """The training loss of the raw weights at `step`, as recorded in the metrics."""

    def held_out(self, step: int, loss: float, weights: "Weights") -> None:
        """The loss of `weights` on held-out images at `step`."""

    def checkpoint(self, step: int, path: Path) -> None:
        """The checkpoint of `step` is complete in `path`."""

    def sampling(self, done: int, total: int, evaluations: int) -> None:
        """The sample grid is at state `done` of `total`, after `evaluations` network evaluations."""
