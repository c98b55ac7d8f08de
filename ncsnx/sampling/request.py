"""A request for samples, validated before torch is imported."""

import math

import attrs

from ncsnx.config.image_sizes import ImageSize, height_and_width
from ncsnx.errors import Hint, UsageError, require_between
from ncsnx.spelling import argument, parameter

MOST_IMAGES = 10_000_000
"""Most images of one request."""
MOST_SEED = 2**32 - 1


_AT_ONCE, _MOST_AT_ONCE = 64, 256
"""Default number of images per batch, and the largest one, for small images."""
_PIXELS_AT_ONCE, _MOST_PIXELS_AT_ONCE = _AT_ONCE * 16**2, _AT_ONCE * 256**2
"""Pixels up to which a batch gets more images, since below 16 px the cost of launching operators shows, and above which
it gets fewer."""


def shape_at(shape: tuple[int, int, int], size: ImageSize | None) -> tuple[int, int, int]:
    """(C, H, W) of images of a size; None: that of the shape."""
    return shape if size is None else (shape[0], *height_and_width(size))


def images_at_once(shape: tuple[int, int, int], asked: int | None = None) -> int:
    """The number of images per batch that was asked for; by default 64, more below 16 px, fewer above 256 px.

    shape: (C, H, W) of an image. The default follows from it alone, so that a repeated command has the same batches.
    """
    if asked is not None:
        return asked
    pixels = math.prod(shape[1:])
    wanted = min(_MOST_AT_ONCE, max(_AT_ONCE, _PIXELS_AT_ONCE // pixels))
    return max(1, min(wanted, _MOST_PIXELS_AT_ONCE // pixels))


@attrs.frozen(kw_only=True)
class SampleRequest:
    """A request for samples. Raises UsageError for values out of range."""

    n: int = 64
    """Number of images; of rows, with `interpolate`."""
    may_be_none: bool = False
    """Whether n may be 0, as for a task whose mean is known without images."""
    seed: int = 0
    batch_size: int = 64
    """Images per batch. Images don't depend on it, except for rounding."""
    interpolate: int | None = None
    """Columns per row, from one image's noise to another's. None: no interpolation."""
    between: int | None = None
    """Seed of the other ends of the rows. None: separate noise."""
    frames: int = 0
    """Number of pictures of the annealing, evenly spaced over its states."""
    film: bool = False
    """Whether to write an animation of the annealing; with `interpolate`, of each row from end to end and back."""

    def __attrs_post_init__(self) -> None:
        fewest = 0 if self.may_be_none else 1
        for name, low, high in (("n", fewest, MOST_IMAGES), ("seed", 0, MOST_SEED), ("batch_size", 1, 1_000_000)):
            require_between(name, getattr(self, name), low, high)
        if self.interpolate is not None:
            require_between("interpolate", self.interpolate, 2, 1_000, " columns")
        if self.between is not None:
            require_between("between", self.between, 0, MOST_SEED)
        if self.between == self.seed:
            raise UsageError(f"{parameter('between')} needs two different seeds, not {self.seed:,} twice")
        if self.between is not None and self.interpolate is None:
            raise UsageError(
                f"{parameter('between')} needs the number of columns", Hint("add it", adds=argument("interpolate", 8))
            )
        if self.frames != 0:
            require_between("frames", self.frames, 2, 1_000)

    @property
    def columns(self) -> int:
        """Images per index."""
        return self.interpolate or 1
