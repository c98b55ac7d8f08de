"""What is to be sampled, and what of it makes no sense: known before torch is imported."""

import importlib.util

import attrs

from ncsnx.errors import UsageError, require_between
from ncsnx.spelling import parameter

MOST_IMAGES = 10_000_000
"""Of one sampling."""
LEAST_SCORED = 10
"""Images of a score: fewer say nothing, and half of them have to have a covariance."""
MOST_SEED = 2**32 - 1


@attrs.frozen(kw_only=True)
class SampleRequest:
    """What is to be sampled. Raises UsageError for numbers that make no sense."""

    n: int = 64
    """Images; rows, with `interpolate`."""
    seed: int = 0
    batch_size: int = 64
    """Images at once; they don't depend on it, but for rounding."""
    interpolate: int | None = None
    """Columns of each row: from one image's noise to another's."""
    between: int | None = None
    """The seed of the other ends of rows; None: noise of their own."""
    frames: int = 0
    """Pictures of the annealing, evenly spaced over its states."""
    film: bool = False
    """Whether the annealing becomes a film; of rows, the way from their first image to the last and back."""
    mp4: bool = False
    """The film as an MP4 in the place of an animated GIF."""

    def __attrs_post_init__(self) -> None:
        for name, low, high in (("n", 1, MOST_IMAGES), ("seed", 0, MOST_SEED), ("batch_size", 1, 1_000_000)):
            require_between(name, getattr(self, name), low, high)
        if self.interpolate is not None:
            require_between("interpolate", self.interpolate, 2, 1_000, " columns")
        if self.between is not None:
            require_between("between", self.between, 0, MOST_SEED)
        if self.between == self.seed:
            raise UsageError(f"{parameter('between')} takes two seeds that differ, not {self.seed:,} twice")
        if self.mp4:
            require_mp4()
        if self.between is not None and self.interpolate is None:
            raise UsageError(f"{parameter('between')} needs interpolate, the number of columns")
        if self.frames != 0:
            require_between("frames", self.frames, 2, 1_000)

    @property
    def columns(self) -> int:
        """Images per index."""
        return self.interpolate or 1


def require_mp4() -> None:
    """Raises UsageError where films can't be written as MP4."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise UsageError(
            f"{parameter('mp4')} takes the extra film: pip install 'ncsnx[film]'; or leave it out, for a GIF"
        )
