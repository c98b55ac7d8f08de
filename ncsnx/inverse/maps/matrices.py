"""Maps by a matrix, and by an operator with a singular value decomposition."""

from functools import cached_property

import attrs
import torch
from torch import Tensor

from ncsnx.inverse.maps.measurement_map import LinearMap, PlacedTensor
from ncsnx.inverse.operators import LinearOperator, require_matrix


@attrs.frozen(eq=False)
class MatrixMap(LinearMap):
    """A dense matrix (m, C·H·W), real or complex, that isn't decomposed; for one too large for `MatrixOperator`."""

    shape: tuple[int, int, int]
    matrix: Tensor = attrs.field(converter=torch.as_tensor)
    _matrix: PlacedTensor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        require_matrix(self.matrix, self.shape)
        object.__setattr__(self, "_matrix", PlacedTensor(self.matrix))

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


@attrs.frozen(eq=False)
class OperatorMap(LinearMap):
    """A `LinearOperator` as a map: Uᵀ A = Σ Vᵀ and its transpose V Σ."""

    operator: LinearOperator

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(C, H, W) of the images."""
        return self.operator.shape

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(M,)."""
        return (len(self.operator.singular_values),)

    @cached_property
    def norm(self) -> float:
        """The largest singular value."""
        return float(self.operator.singular_values.max())

    def apply(self, x: Tensor) -> Tensor:
        """Σ Vᵀ x, (B, C, H, W) → (B, M)."""
        return self.operator.measure(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """V Σ y, (B, M) → (B, C, H, W)."""
        return self.operator.images(self.operator.singular_values.to(y) * y)
