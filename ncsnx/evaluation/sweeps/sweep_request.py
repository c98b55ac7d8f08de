"""How checkpoints are scored, and what of it makes no sense: known before torch is imported."""

import attrs

from ncsnx.errors import require_between
from ncsnx.sampling.request import LEAST_SCORED, MOST_IMAGES, SampleRequest


@attrs.frozen(kw_only=True)
class SweepRequest:
    """How each checkpoint is scored. Raises UsageError for numbers that make no sense."""

    n: int = 1000
    """Images of each checkpoint."""
    seed: int = 0
    batch_size: int = 64
    """Images at once; they don't depend on it, but for rounding."""
    ensemble: int = 1
    """Checkpoints whose scores are averaged: the last so many up to each."""
    keep_images: bool = False
    """Write every image as a PNG."""

    def __attrs_post_init__(self) -> None:
        require_between("n", self.n, LEAST_SCORED, MOST_IMAGES)
        _ = self.images  # checks seed and batch_size
        require_between("ensemble", self.ensemble, 1, 1_000, " checkpoints")

    @property
    def images(self) -> SampleRequest:
        """The images of a checkpoint."""
        return SampleRequest(n=self.n, seed=self.seed, batch_size=self.batch_size)
