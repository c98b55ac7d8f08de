"""What the training loop tells whoever watches it."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from ncsnx.runs.exported import Weights

TRAINING = "training"
EVALUATING = "evaluating"
CHECKPOINT = "writing a checkpoint"
SAMPLING = "sampling"
"""Phases that come again and again."""


@attrs.frozen(kw_only=True)
class Pause:
    """Something that interrupts the training steps again and again, such as a grid of samples."""

    phase: str
    """Its name, as the training loop tells it."""
    every: int
    """It follows each step whose number is a multiple of this."""
    at_end: bool = False
    """Whether it follows the last step too, whatever its number."""
    in_steps: float = 0.0
    """What it is taken to cost as long as none was timed, in training steps."""

    def is_due(self, step: int, total: int) -> bool:
        """Whether it follows this step, of `total`."""
        return step % self.every == 0 or (self.at_end and step == total)

    def count(self, after: int, total: int) -> int:
        """How many follow the steps `after` + 1 to `total`."""
        is_extra = self.at_end and after < total and total % self.every > 0
        return total // self.every - after // self.every + is_extra


class TrainingObserver(Protocol):
    """A step counts as done when the weights are updated."""

    def phase(self, name: str) -> None:
        """What the run does from now on: one of the phases above, or something else. Steps belong to TRAINING."""

    def warning(self, text: str) -> None:
        """Something a person should know that doesn't end the training."""

    def note(self, text: str) -> None:
        """Something that was done, for whoever reads the log."""

    def step(self, step: int, images: int) -> None:
        """`step` is done, and took `images` images. Called at every step: costs less than a microsecond."""

    def logged(self, step: int, loss: float, device_memory_bytes: int | None = None) -> None:
        """The training loss at `step`, of the raw weights, as in the metrics."""

    def held_out(self, step: int, loss: float, weights: "Weights") -> None:
        """The loss of `weights` on held-out images at `step`."""

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint of `step` is complete in `path`."""

    def sampling(self, done: int, total: int, evaluations: int) -> None:
        """The snapshot grid is at state `done` of `total`, after `evaluations` network evaluations."""
