"""What is to be sampled, and what of it makes no sense: known before torch is imported."""

import importlib.util

import attrs

from ncsnx.errors import UsageError

MOST_IMAGES = 10_000_000
"""Of one sampling."""
LEAST_SCORED = 10
"""Images of a score: fewer say nothing, and half of them have to have a covariance."""


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
        require_count(self.n)
        for name, low, high in (("seed", 0, 2**32 - 1), ("batch_size", 1, 1_000_000)):
            value = getattr(self, name)
            if not low <= value <= high:
                if name == "seed" and self.between is not None:
                    raise UsageError(f"--between takes seeds from {low} to {high}, not {value}")
                raise UsageError(f"--{name.replace('_', '-')} must be between {low} and {high}, not {value}")
        if self.interpolate is not None and not 2 <= self.interpolate <= 1_000:
            option = "interpolate" if self.between is None else "steps"
            raise UsageError(f"--{option} must be between 2 and 1000 columns, not {self.interpolate}")
        if self.between is not None and not 0 <= self.between < 2**32:
            raise UsageError(f"--between takes seeds from 0 to {2**32 - 1}, not {self.between}")
        if self.between == self.seed:
            raise UsageError(
                f"--between takes two seeds that differ, not {self.seed} twice: its rows would stand still"
            )
        if self.mp4:
            require_mp4()
        if self.between is not None and self.interpolate is None:
            raise UsageError("between takes interpolate, the number of columns, too")
        if not (self.frames == 0 or 2 <= self.frames <= 1_000):
            raise UsageError(f"--frames must be between 2 and 1000, not {self.frames}")

    @property
    def columns(self) -> int:
        """Images an index."""
        return self.interpolate or 1


def require_count(n: int, least: int = 1) -> None:
    """Raises UsageError unless so many images can be drawn, and are enough."""
    if not least <= n <= MOST_IMAGES:
        raise UsageError(f"--n must be between {least} and {MOST_IMAGES}, not {n}")


def require_mp4() -> None:
    """Raises UsageError where films can't be written as MP4."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise UsageError("--mp4 takes the extra film: pip install 'ncsnx[film]'; or leave it out, for a GIF")
