"""Linear operators A of images, by their singular value decomposition A = U Σ Vᵀ.

Samplers need V: orthonormal directions in the space of images that A measures; the other directions are its null space.
`coefficients` is Vᵀ, `images` is V, and V Vᵀ projects on the measured subspace.

An operator of your own has a shape, singular values and these two functions and, if U isn't the identity,
`of_measurement`; docs/adding/operator.md has an example. For a matrix, use `MatrixOperator`.
"""

import math
from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

import attrs
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse.operators.measurement_map import LinearMap


@attrs.define(eq=False)
class PlacedTensor:
    """A tensor with copies on the devices and in the precisions in which it was asked for.

    So an evaluation copies nothing to a GPU, which would wait for it.
    """

    tensor: Tensor
    _copies: dict[tuple[torch.device, torch.dtype], Tensor] = attrs.field(factory=dict, init=False)

    def like(self, x: Tensor) -> Tensor:
        """The tensor on the device of x; float32 values of x make it float32 or complex64. Indices stay int64."""
        wide, kinds = x.dtype in (torch.float64, torch.complex128), (torch.float32, torch.float64)
        if self.tensor.is_complex():
            kinds = (torch.complex64, torch.complex128)
        key = (x.device, torch.int64 if self.tensor.dtype == torch.int64 else kinds[wide])
        if key not in self._copies:
            self._copies[key] = self.tensor.to(*key)
        return self._copies[key]


class LinearOperator(LinearMap):
    """A linear operator A of rank M from images (C, H, W) to measurements; as a map it is Uᵀ A = Σ Vᵀ."""

    in_words: ClassVar[str] = "an operator with singular values"

    @property
    @abstractmethod
    def singular_values(self) -> Tensor:
        """Diagonal of Σ, (M,), all > 0."""

    @cached_property
    def placed_singular_values(self) -> PlacedTensor:
        """The same on any device."""
        return PlacedTensor(self.singular_values)

    @abstractmethod
    def coefficients(self, x: Tensor) -> Tensor:
        """Vᵀ x: (B, C, H, W) → (B, M), in the precision of x: float32 or float64."""

    @abstractmethod
    def images(self, c: Tensor) -> Tensor:
        """V c: (B, M) → (B, C, H, W)."""

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(M,)."""
        return (len(self.singular_values),)

    @cached_property
    def norm(self) -> float:
        """The largest singular value."""
        return float(self.singular_values.max())

    def apply(self, x: Tensor) -> Tensor:
        """Uᵀ A x = Σ Vᵀ x: (B, C, H, W) → (B, M)."""
        return self.placed_singular_values.like(x) * self.coefficients(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """V Σ y: (B, M) → (B, C, H, W)."""
        return self.images(self.placed_singular_values.like(y) * y)

    def of_measurement(self, y: Tensor) -> Tensor:
        """Uᵀ y of measurements y = A x: (B, …) → (B, M).

        By default U = 1, and each y has M values in any shape. Raises NcsnxError for measurements of another shape.
        """
        rank = len(self.singular_values)
        if y.dim() < 2 or math.prod(y.shape[1:]) != rank:
            raise NcsnxError(f"{type(self).__name__}: expected measurements (P, {rank}), found {tuple(y.shape)}")
        return y.flatten(1)

    @property
    def unmixed(self) -> LinearMap:
        """The map to the measurements themselves, whose noise is independent: the operator, if U = 1.

        Raises NcsnxError for an operator that mixes values (`of_measurement`) and has no such map.
        """
        if type(self).of_measurement is LinearOperator.of_measurement:
            return self
        raise NcsnxError(
            f"{type(self).__name__} mixes values whose noise differs: expected `unmixed`, a LinearMap to the values "
            "themselves"
        )

    def check(self) -> None:
        """Raises NcsnxError as for any linear map, and unless V is orthonormal."""
        name, singular = type(self).__name__, self.singular_values
        if singular.dim() != 1 or len(singular) == 0 or not bool(((singular > 0) & singular.isfinite()).all()):
            raise NcsnxError(
                f"{name}.singular_values must be (M,), finite and above 0; leave out directions that are not measured"
            )
        super().check()
        c = torch.randn(2, len(singular), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        if not torch.allclose(self.coefficients(self.images(c)), c, rtol=1e-4, atol=1e-4):
            raise NcsnxError(
                f"{name}: coefficients(images(c)) must be c, but it is not: the directions are not orthonormal"
            )


class Selecting(LinearOperator):
    """Some of the N = C·H·W coefficients of an orthonormal transform of the images: masks, blurs, frequencies."""

    @property
    @abstractmethod
    def _measured(self) -> Tensor:
        """Mask of the measured coefficients in the shape of the images, (C, H, W) bool."""

    @cached_property
    def _places(self) -> PlacedTensor:
        """Indices of the measured coefficients, (M,) int64."""
        return PlacedTensor(self._measured.flatten().nonzero().flatten())

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """The orthonormal transform, (B, C, H, W) → (B, N)."""

    @abstractmethod
    def inverse(self, c: Tensor) -> Tensor:
        """The inverse transform, (B, N) → (B, C, H, W)."""

    def coefficients(self, x: Tensor) -> Tensor:
        """The measured coefficients of the transform."""
        return self.transform(x).index_select(1, self._places.like(x))

    def images(self, c: Tensor) -> Tensor:
        """The inverse transform, with 0 for coefficients that aren't measured."""
        whole = c.new_zeros(len(c), math.prod(self.shape))
        return self.inverse(whole.index_copy(1, self._places.like(c), c))
