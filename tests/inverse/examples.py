"""An example of each operator of ncsnx, and a user's operator with its task, for the conformance tests."""

import math
from functools import cached_property
from pathlib import Path

import attrs
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ncsnx.inverse import (
    Averaging,
    Blurring,
    Fourier,
    Graying,
    GrayPicture,
    LinearMap,
    LinearOperator,
    Masking,
    MatrixOperator,
    Task,
    register_task,
)
from ncsnx.inverse.operators.linear_operator import PlacedTensor

GENERATOR = torch.Generator().manual_seed(0)
MASK = torch.rand(3, 6, 8, generator=GENERATOR) < 0.4
FREQUENCIES = torch.rand(6, 8, generator=GENERATOR) < 0.4


@attrs.frozen(eq=False)
class TopHalf(LinearOperator):
    """A user's operator."""

    shape: tuple[int, int, int]

    @property
    def singular_values(self) -> Tensor:
        channels, height, width = self.shape
        return torch.ones(channels * (height // 2) * width)

    def coefficients(self, x: Tensor) -> Tensor:
        return x[:, :, : self.shape[1] // 2].flatten(1)

    def images(self, c: Tensor) -> Tensor:
        channels, height, width = self.shape
        return functional.pad(c.view(-1, channels, height // 2, width), (0, 0, 0, height - height // 2))


def write_top_half(images: Tensor, file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, images[:, :, : images.shape[2] // 2].numpy())


@register_task("top-half", example=write_top_half)
def top_half(file: Path, shape: tuple[int, int, int]) -> Task:
    return Task.of_measurement(TopHalf(shape), y=torch.from_numpy(np.load(file)))


OPERATORS: dict[str, LinearOperator] = {
    "mask": Masking(MASK),
    "averaging": Averaging((3, 6, 8), 2),
    "graying": Graying((3, 6, 8)),
    "gray picture": GrayPicture((3, 6, 8)),
    "blurring": Blurring((3, 6, 8), 0.8),
    "strong blurring": Blurring((1, 12, 8), 2.5),
    "fourier, real": Fourier((1, 6, 8), FREQUENCIES),
    "fourier, odd": Fourier((1, 5, 7), torch.rand(5, 7, generator=GENERATOR) < 0.3),
    "fourier, complex": Fourier((2, 6, 8), FREQUENCIES),
    "matrix": MatrixOperator((1, 3, 4), torch.randn(5, 12, generator=GENERATOR)),
    "of a user": TopHalf((2, 5, 4)),
}


@attrs.frozen(eq=False)
class MatrixMap(LinearMap):
    """A user's map: a dense matrix (m, C·H·W), real or complex, that isn't decomposed."""

    shape: tuple[int, int, int]
    matrix: Tensor = attrs.field(converter=torch.as_tensor)

    @cached_property
    def _matrix(self) -> PlacedTensor:
        return PlacedTensor(self.matrix)

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(m,)."""
        return (len(self.matrix),)

    def apply(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, m)."""
        matrix = self._matrix.like(x)
        return x.flatten(1).to(matrix) @ matrix.T

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, m) → (B, C, H, W)."""
        back = y @ self._matrix.like(y).conj()
        return (back.real if back.is_complex() else back).view(-1, *self.shape)


def pseudo_inverse(operator: LinearOperator, y: Tensor) -> Tensor:
    """V Σ⁻¹ y: (B, M) → (B, C, H, W)."""
    return operator.images(y / operator.singular_values.to(y))


def blurred(sigma: float, x: Tensor) -> Tensor:
    """Images (B, C, H, W) with a Gaussian blur of `sigma` pixels and mirrored edges."""
    reach = math.ceil(6 * sigma)
    return torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="reflect", radius=reach))


def pictures(operator: LinearOperator, count: int = 3) -> Tensor:
    """Random images, (count, C, H, W) float64 in [0, 1]."""
    return torch.rand(count, *operator.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
