"""Row sums: the sum of each row of pixels, like an X-ray from the side."""

from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.inverse import LinearOperator, Task, register_task


@attrs.frozen(eq=False)
class RowSums(LinearOperator):
    """Sums of the rows: A = U Σ Vᵀ with U = 1, one direction per row of pixels."""

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
    """Writes the row sums of images (P, C, H, W) to a .npy file."""
    with file.open("wb") as opened:
        np.save(opened, images.sum(dim=3).numpy())


@register_task("row-sums", example=write_row_sums)
def row_sums(file: Path, shape: tuple[int, int, int]) -> Task:
    """The task of a .npy file with row sums, (P, C, H)."""
    return Task.of_measurement(RowSums(shape), y=torch.from_numpy(np.load(file)), name="row-sums")
