"""What the training loop tells whoever watches it."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ncsnx.runs.export import Weights


class TrainingObserver(Protocol):
    """A step counts as done when the weights are updated."""

    def phase(self, name: str) -> None:
        """What the run does from now on: 'loading data', 'training', 'sampling' …"""

    def warning(self, text: str) -> None:
        """Something a person should know that doesn't end the training."""

    def note(self, text: str) -> None:
        """Something that was done, for whoever reads the log."""

    def step(self, step: int, images: int) -> None:
        """`step` is done, and took `images` images. Called at every step: costs less than a microsecond."""

    def logged(
        self,
        step: int,
        loss: float,
        images_per_second: float | None = None,
        device_memory_bytes: int | None = None,
    ) -> None:
        """The training loss at `step`, of the raw weights, as in the metrics; the rate is estimated if not given."""

    def held_out(self, step: int, loss: float, weights: "Weights") -> None:
        """The loss of `weights` on held-out images at `step`."""

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint of `step` is complete in `path`."""

    def sampling(self, done: int, total: int, evaluations: int) -> None:
        """The snapshot grid is at state `done` of `total`, after `evaluations` network evaluations."""
