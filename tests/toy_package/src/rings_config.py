"""Configuration of the rings: synthetic images for tests."""

import attrs

from ncsnx.config import Data, variant


@variant(Data, "rings")
@attrs.frozen(kw_only=True)
class Rings(Data):
    """Circles of all sizes, 8×8 pixels, one channel."""

    count: int = 200
    """Number of images."""

    @property
    def image_size(self) -> int:
        return 8

    @property
    def channels(self) -> int:
        return 1
