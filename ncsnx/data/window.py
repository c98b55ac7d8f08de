"""The window in which pictures show the values of a data set."""

from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.data.transforms import Preprocessing, scale_of
from ncsnx.images import UNIT, Window, to_uint8


def window_of(data: Data) -> Window:
    """The window of values as in samples and results: [0, 1] for bounded data.

    For unbounded data `data.window_low` to `data.window_high`; by default −scale to scale, or for complex data its
    magnitude from 0 to scale. Raises NcsnxError for unbounded data whose scale hasn't been measured.
    """
    if data.is_bounded:
        return UNIT
    scale = scale_of(data)
    low, high = (getattr(data, name, None) for name in ("window_low", "window_high"))
    if low is None:
        low = 0.0 if data.is_complex else -scale
        low = low if high is None or low < high else high - scale
    if high is None:
        high = scale if low < scale else low + scale
    return Window(low, high, data.is_complex)


def shown_pixels(images: Preprocessing, pixels: Tensor) -> Tensor:
    """Stored pixels → (B, C, H, W) uint8 in the window of the data, with a centre crop, for features."""
    return to_uint8(window_of(images.data)(images.values(pixels)))
