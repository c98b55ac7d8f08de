"""A matrix as an operator."""

import math
from functools import cached_property

import attrs
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse.operators.linear_operator import LinearOperator, PlacedTensor
from ncsnx.inverse.operators.measurement_map import LinearMap, require_scale


@attrs.frozen(eq=False)
class MatrixOperator(LinearOperator):
    """A matrix (m, C·H·W), decomposed when it is first used; for small images.

    Raises NcsnxError for a matrix of another shape, without rows, of zeros only, with values that aren't finite, or too
    large or small for single precision.
    """

    shape: tuple[int, int, int]
    matrix: Tensor = attrs.field(converter=torch.as_tensor)

    def __attrs_post_init__(self) -> None:
        size = math.prod(self.shape)
        if self.matrix.dim() != 2 or self.matrix.shape[1] != size or len(self.matrix) == 0:
            raise NcsnxError(f"expected a matrix (m, {size}) for such images, found {tuple(self.matrix.shape)}")
        if self.matrix.is_complex() or not bool(torch.isfinite(self.matrix).all()):
            raise NcsnxError("expected a matrix of finite real numbers")
        require_scale(self.matrix[None], "a matrix")

    @cached_property
    def _decomposed(self) -> tuple[PlacedTensor, Tensor, PlacedTensor]:
        """U, Σ and Vᵀ."""
        u, s, vh = torch.linalg.svd(self.matrix.detach().double(), full_matrices=False)
        seen = s > 1e-6 * s[0]
        return PlacedTensor(u[:, seen]), s[seen], PlacedTensor(vh[seen])

    @property
    def singular_values(self) -> Tensor:
        """Singular values above 10⁻⁶ times the largest."""
        return self._decomposed[1].float()

    def coefficients(self, x: Tensor) -> Tensor:
        """Vᵀ x."""
        return x.flatten(1) @ self._decomposed[2].like(x).T

    def images(self, c: Tensor) -> Tensor:
        """V c."""
        return (c @ self._decomposed[2].like(c)).view(-1, *self.shape)

    def of_measurement(self, y: Tensor) -> Tensor:
        """Uᵀ y of values in the order of the matrix's rows: (B, m) → (B, M)."""
        if y.dim() != 2 or y.shape[1] != len(self.matrix):
            raise NcsnxError(f"expected measurements (P, {len(self.matrix)}), one per row, found {tuple(y.shape)}")
        return y @ self._decomposed[0].like(y)

    @property
    def unmixed(self) -> LinearMap:
        """The matrix as it is."""
        return _Rows(self.shape, PlacedTensor(self.matrix.detach().double()))


@attrs.frozen(eq=False)
class _Rows(LinearMap):
    """A matrix (m, C·H·W), as a map to its m values."""

    shape: tuple[int, int, int]
    matrix: PlacedTensor

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (len(self.matrix.tensor),)

    def apply(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.like(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.like(y)).view(-1, *self.shape)
