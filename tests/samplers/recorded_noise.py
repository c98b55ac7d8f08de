"""Noise that was recorded."""

import attrs
from torch import Tensor


@attrs.frozen(eq=False)
class RecordedNoise:
    """Replays recorded draws."""

    draws: Tensor
    """(K, B, C, H, W), in the order of use."""

    def __call__(self, k: int) -> Tensor:
        """(B, C, H, W). Raises IndexError past the last draw."""
        return self.draws[k]
