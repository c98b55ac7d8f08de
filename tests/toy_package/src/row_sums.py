"""Row sums: the sum of each row of pixels, as an X-ray from the side would see it."""

from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.inverse import LinearOperator, Task, register_task


@attrs.frozen(eq=False)
class RowSums(LinearOperator):
    """A = U Σ Vᵀ, here with U = 1: each row is a direction of its own."""

    shape: tuple[int, int, int]

    @property
    def singular_values(self) -> Tensor:
        channels, height, width = self.shape
        return torch.full((channels * height,), width**0.5)

    def coefficients(self, x: Tensor) -> Tensor:
        return x.sum(dim=3).flatten(1) / self.shape[2] ** 0.5

    def images(self, c: Tensor) -> Tensor:
        channels, height, width = self.shape
        return c.view(-1, channels, height, 1).expand(-1, -1, -1, width) / width**0.5


def write_row_sums(images: Tensor, file: Path) -> None:
    """What is measured of images (P, C, H, W)."""
    with file.open("wb") as opened:
        np.save(opened, images.sum(dim=3).numpy())


@register_task("row-sums", example=write_row_sums)
def row_sums(file: Path, shape: tuple[int, int, int]) -> Task:
    """file: a .npy of (P, C, H) sums."""
    return Task.of_measurement(RowSums(shape), y=torch.from_numpy(np.load(file)), name="row-sums")
