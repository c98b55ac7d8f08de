"""Radial tomography: the Radon transform of an image, with parallel beams.

Conventions are those of `skimage.transform.radon(image, angles, circle=True)`: the axis of rotation is at row H // 2
and column W // 2, at an angle of 0 the columns are summed, and values are interpolated bilinearly along each ray, in
steps of one pixel. A value is thus the line integral in units of pixels.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse.operators.linear_operator import PlacedTensor
from ncsnx.inverse.operators.measurement_map import LinearMap


def _in_float64(numbers: Tensor | Sequence[float]) -> Tensor:
    return torch.as_tensor(numbers, dtype=torch.float64)


@attrs.frozen(eq=False)
class Radon(LinearMap):
    """Sinograms of the channels of an image, as a sparse matrix with its transpose.

    The matrix takes about 24 bytes per angle, detector and pixel of the longer side: 0.3 GB for 180 angles at 256².
    """

    shape: tuple[int, int, int]
    angles: Tensor = attrs.field(converter=_in_float64)
    """Angles in degrees, (A,)."""
    detectors: int = attrs.field(default=0)
    """Number of detectors, a pixel apart, of which number D // 2 sees the axis; 0: the longer side of the image."""
    _matrix: PlacedTensor = attrs.field(init=False)
    _transpose: PlacedTensor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.angles.dim() != 1 or len(self.angles) == 0 or not bool(torch.isfinite(self.angles).all()):
            raise NcsnxError(f"expected angles (A,) in degrees, found {tuple(self.angles.shape)}, or one not finite")
        object.__setattr__(self, "detectors", self.detectors or max(self.shape[1:]))
        if self.detectors < 1:
            raise NcsnxError(f"expected at least 1 detector, found {self.detectors}")
        rows, columns, weights = _entries(self.shape[1:], self.angles, self.detectors)
        size = len(self.angles) * self.detectors, math.prod(self.shape[1:])
        object.__setattr__(self, "_matrix", PlacedTensor(_sparse(rows, columns, weights, size)))
        object.__setattr__(self, "_transpose", PlacedTensor(_sparse(columns, rows, weights, size[::-1])))

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(C, angles, detectors)."""
        return self.shape[0], len(self.angles), self.detectors

    def apply(self, x: Tensor) -> Tensor:
        """Sinograms: (B, C, H, W) → (B, C, angles, detectors)."""
        return _times(x.flatten(2), self._matrix, self._transpose).view(len(x), *self.measured_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """Unfiltered back-projection: (B, C, angles, detectors) → (B, C, H, W)."""
        return _times(y.flatten(2), self._transpose, self._matrix).view(len(y), *self.shape)


_WITHOUT_SPARSE = ("mps",)
"""Devices without sparse matrices by rows (pytorch #196192), whose products are computed on the CPU."""


def _times(x: Tensor, matrix: PlacedTensor, transpose: PlacedTensor) -> Tensor:
    """M x of rows x, on the device of x."""
    at = x.cpu() if x.device.type in _WITHOUT_SPARSE else x
    product: Tensor = _Product.apply(at, matrix.like(at), transpose.like(at))  # type: ignore[no-untyped-call]
    return product.to(x.device)


class _Product(torch.autograd.Function):
    """M x of rows x, with a gradient by the transpose, which torch's sparse products lack."""

    @staticmethod
    def forward(x: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        return (matrix @ flat.T).T.reshape(*x.shape[:-1], -1)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        context.matrices = inputs[1:]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        matrix, transpose = context.matrices
        back: Tensor = _Product.apply(gradient, transpose, matrix)  # type: ignore[no-untyped-call]
        return back, None, None


def _sparse(rows: Tensor, columns: Tensor, weights: Tensor, size: tuple[int, ...]) -> Tensor:
    """A sparse matrix by its rows (CSR); weights of one place add up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the format a beta, and its checks optional
        return torch.sparse_coo_tensor(torch.stack([rows, columns]), weights, size).coalesce().to_sparse_csr()


def _entries(size: tuple[int, int], angles: Tensor, detectors: int) -> tuple[Tensor, Tensor, Tensor]:
    """(ray, pixel, weight) of all entries of the matrix that aren't 0."""
    height, width = size
    reach = math.ceil(math.hypot(height, width) / 2) + 1
    along = torch.arange(-reach, reach + 1, dtype=torch.float64)
    aside = (torch.arange(detectors) - detectors // 2).double()[:, None]
    entries: list[tuple[Tensor, Tensor, Tensor]] = []
    for number, angle in enumerate(torch.deg2rad(angles).tolist()):
        across = width // 2 + math.cos(angle) * aside + math.sin(angle) * along
        down = height // 2 - math.sin(angle) * aside + math.cos(angle) * along
        rays = (number * detectors + torch.arange(detectors))[:, None].expand_as(across)
        left, top = across.floor(), down.floor()
        for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
            weight = (1 - (across - column).abs()) * (1 - (down - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (weight > 1e-12)
            pixels = (row * width + column)[inside].long()
            entries.append((rays[inside], pixels, weight[inside]))
    rows, columns, weights = (torch.cat(parts) for parts in zip(*entries, strict=True))
    return rows, columns, weights
