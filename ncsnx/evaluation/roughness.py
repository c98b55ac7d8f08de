"""Broken images: rougher than every real image, for example because a sampler left noise in them.

A few in a hundred hardly change a distance between distributions, but people see them at once.
"""

from pathlib import Path

import attrs
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.features.real_images import RealImages
from ncsnx.storage.cache import cached, finding_place
from ncsnx.storage.documents import document
from ncsnx.work import SILENT, Work

_ROUGHNESS_BATCH = 256


@document("the roughness of real images", sealed=True)
@attrs.frozen(kw_only=True)
class Roughest:
    """The cached result of `roughest`."""

    roughest: float
    """Roughness of the roughest real image."""


def roughness(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, down plus across: (B, C, H, W) uint8 → (B,) float32.

    Pixel values are scaled to [0, 1].
    """
    x = images.float() / 255
    return sum((x.diff(dim=axis) ** 2).mean(dim=(1, 2, 3)) for axis in (2, 3))  # type: ignore[return-value]


def roughest(real: RealImages, cache: Path | None = None, work: Work = SILENT) -> float:
    """The roughness of the roughest real image, computed once and cached. Raises NcsnxError."""

    def find() -> Roughest:
        most = 0.0
        with work.progress("looking for the roughest image", total=len(real), unit="images") as advance:
            for batch in real.batches(_ROUGHNESS_BATCH, work.check_stop):
                most = max(most, float(roughness(batch).max()))
                advance(len(batch))
        return Roughest(roughest=most)

    if len(real) == 0:
        raise NcsnxError(f"{real.title}: there are no real images to compare with")
    place = finding_place("roughness", real.facts, cache)
    return cached(place, Roughest, find, f"a look at {real.title}", work).roughest
