"""Values that no float32 holds."""

import torch
from torch import Tensor

from ncsnx.quantities import counted, them


def non_finite_in_words(x: Tensor, place: str = "") -> str | None:
    """The values that are NaN, infinite or too large for float32, and advice; None without such.

    'found 3 NaN, infinite or too large values in y; replace them', for the place ' in y'.
    """
    found = int((~torch.isfinite(x.to(torch.complex64 if x.is_complex() else torch.float32))).sum())
    if not found:
        return None
    return f"found {counted(found, 'NaN, infinite or too large value')}{place}; replace {them(found)}"
