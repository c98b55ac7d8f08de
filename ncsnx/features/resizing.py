"""clean-fid's resizing (Parmar, Zhang & Zhu, "On Aliased Resizing", CVPR 2022, arXiv 2104.11222).

It is bicubic with antialiasing, each channel as float32, without rounding to 8 bits. It calls clean-fid's own function
with arrays instead of PNG files; equal 8-bit images give equal numbers.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError

INCEPTION_SIZE = 299

_Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


class CleanResizer:
    """Resizes images to a square with clean-fid's function."""

    def __init__(self, size: int = INCEPTION_SIZE) -> None:
        from cleanfid.resize import make_resizer  # its import takes a second

        self.size = size
        self._resize: Callable[[_Array], _Array] = make_resizer("PIL", False, "bicubic", (size, size))

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
        planes = images.cpu().reshape(-1, height, width).numpy()
        resized = torch.from_numpy(self._planes(planes)).view(count, channels, self.size, self.size)
        return resized.expand(-1, 3, -1, -1).contiguous()

    def _planes(self, planes: _Array) -> _Array:
        """(N, H, W) uint8 → (N, size, size) float32.

        clean-fid resizes the three channels of an array independently, so any three planes can be the channels.
        """
        missing = -len(planes) % 3
        padded = np.concatenate([planes, np.zeros((missing, *planes.shape[1:]), planes.dtype)])
        resized = np.empty((len(padded), self.size, self.size), dtype=np.float32)
        with warnings.catch_warnings():
            # some versions of Pillow deprecate the argument by which clean-fid passes the type of its pixels
            warnings.filterwarnings("ignore", category=DeprecationWarning, message="'mode' parameter")
            for k in range(0, len(padded), 3):
                # transposed image by image: transposing a whole batch took two thirds of a reference's time
                resized[k : k + 3] = self._resize(padded[k : k + 3].transpose(1, 2, 0)).transpose(2, 0, 1)
        return resized[: len(planes)]
