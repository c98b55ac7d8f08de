"""Parameters of scoring checkpoints, checked without importing torch."""

import attrs

from ncsnx.errors import require_between
from ncsnx.sampling.request import LEAST_SCORED, MOST_IMAGES, SampleRequest


@attrs.frozen(kw_only=True)
class SweepRequest:
    """Parameters of scoring checkpoints. Raises UsageError for numbers out of range."""

    n: int = 1000
    """Images per checkpoint."""
    seed: int = 0
    batch_size: int = 64
    """Images per batch; changes them by rounding at most."""
    ensemble: int = 1
    """K for an ensemble: the scores of the last K checkpoints up to each are averaged."""
    keep_images: bool = False
    """Whether to write every image as a PNG."""

    def __attrs_post_init__(self) -> None:
        require_between("n", self.n, LEAST_SCORED, MOST_IMAGES)
        _ = self.images  # checks seed and batch_size
        require_between("ensemble", self.ensemble, 1, 1_000, " checkpoints")

    @property
    def images(self) -> SampleRequest:
        """Request for the images of a checkpoint."""
        return SampleRequest(n=self.n, seed=self.seed, batch_size=self.batch_size)
