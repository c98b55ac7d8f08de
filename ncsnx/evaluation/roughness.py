"""Broken images: rougher than any real one, as when a sampler has left noise in them.

A distance between distributions hardly shows a few such images in a hundred; a person sees them at once.
"""

from collections.abc import Callable

from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.real_images import RealImages


def roughness(images: Tensor) -> Tensor:
    """The mean square of the differences of neighbouring pixels, down and across: (B, C, H, W) uint8 → (B,) float32.

    In units of the square of the whole range from black to white.
    """
    x = images.float() / 255
    return sum((x.diff(dim=axis) ** 2).mean(dim=(1, 2, 3)) for axis in (2, 3))  # type: ignore[return-value]


def roughest(real: RealImages, check_stop: Callable[[], None] = lambda: None) -> float:
    """The roughness of the roughest real image. check_stop is asked between batches. Raises NcsnxError."""
    most = [float(roughness(batch).max()) for batch in real.batches(256, check_stop)]
    if not most:
        raise NcsnxError(f"{real.title}: there is no real image to compare with")
    return max(most)


def count_broken(images: Tensor, limit: float) -> int:
    """How many of the images, (B, C, H, W) uint8, are rougher than `limit`."""
    return int((roughness(images) > limit).sum())
