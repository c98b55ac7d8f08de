"""clean-fid's resizing (Parmar, Zhang & Zhu, "On Aliased Resizing", CVPR 2022, arXiv 2104.11222).

It is Pillow's bicubic with antialiasing, each channel as float32, without rounding to 8 bits. Equal 8-bit images give
clean-fid's numbers.
"""

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ncsnx.errors import NcsnxError

INCEPTION_SIZE = 299


@attrs.frozen
class CleanResizer:
    """Resizes images to a square."""

    size: int = INCEPTION_SIZE

    @property
    def description(self) -> str:
        """Description for protocols."""
        return f"clean-fid bicubic {self.size}"

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 → (B, 3, size, size) float32 in 0 … 255, on the CPU; a single channel is repeated.

        Raises NcsnxError unless C is 1 or 3.
        """
        count, channels, height, width = images.shape
        if channels not in (1, 3):
            raise NcsnxError(
                f"features that need resizing take images of 1 or 3 channels, not {channels}; take a classifier, or a "
                "TorchScript network with features.image_size=none"
            )
        resized = np.empty((count * channels, self.size, self.size), dtype=np.float32)
        for place, plane in enumerate(images.cpu().reshape(-1, height, width).float().numpy()):
            picture = Image.fromarray(plane).resize((self.size, self.size), Image.Resampling.BICUBIC)
            resized[place] = np.asarray(picture).clip(0, 255)
        planes = torch.from_numpy(resized).view(count, channels, self.size, self.size)
        return planes.expand(-1, 3, -1, -1).contiguous()
