"""Operators of the library deepinv (https://deepinv.github.io) as maps.

They compute on the device of their own tensors, to which images are moved and back: use `physics.to(device)` for speed.
"""

from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.config.user_code import foreign_errors
from ncsnx.errors import NcsnxError
from ncsnx.inverse.operators.measurement_map import LinearMap, MeasurementMap, in_single_precision


@attrs.frozen(eq=False)
class PhysicsMap(MeasurementMap):
    """A physics of deepinv, differentiated by autograd. Its noise model isn't used; noise belongs to the task."""

    shape: tuple[int, int, int]
    physics: Any
    measured_shape: tuple[int, ...]

    def apply(self, x: Tensor) -> Tensor:
        """`physics.A` in float32."""
        return self._computed(self.physics.A, x)

    def _computed(self, function: Any, x: Tensor) -> Tensor:
        """The function's result for float32 on the device of the physics, on the device and in the precision of x."""
        found: Tensor = function(in_single_precision(x).to(_device(self.physics))).to(x.device)
        if x.dtype in (torch.float64, torch.complex128):
            return found.to(torch.complex128 if found.is_complex() else torch.float64)
        return found


@attrs.frozen(eq=False)
class LinearPhysicsMap(PhysicsMap, LinearMap):
    """A linear physics of deepinv, with its `A_adjoint`."""

    def adjoint(self, y: Tensor) -> Tensor:
        """`physics.A_adjoint` in float32."""
        return self._computed(self.physics.A_adjoint, y)


def from_deepinv(physics: Any, shape: tuple[int, int, int]) -> MeasurementMap:
    """A physics of deepinv as a map: a `LinearMap` if it is a `LinearPhysics`, else one for the rule `dps`.

    shape: (C, H, W) of the images. Images have values from 0 to 1. Raises NcsnxError for another object, one that fails
    on images of this shape, and one that gives a list of tensors.
    """
    if not callable(getattr(physics, "A", None)):
        raise NcsnxError(f"expected a physics of deepinv, with a method A, found {type(physics).__name__}")
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), foreign_errors(f"{type(physics).__name__}.A fails on an image of {shape}"):
        y = physics.A(x.to(_device(physics)))
    if not isinstance(y, Tensor):
        raise NcsnxError(f"{type(physics).__name__}.A gave {type(y).__name__}, expected one tensor")
    # `A_adjoint` alone is no sign, since phase retrieval has one
    is_linear = any(kind.__name__ == "LinearPhysics" for kind in type(physics).__mro__)
    return (LinearPhysicsMap if is_linear else PhysicsMap)(shape, physics, tuple(y.shape[1:]))


def _device(physics: Any) -> torch.device:
    """The device of the physics' tensors; the CPU if it has none."""
    tensors = (*physics.buffers(), *physics.parameters()) if isinstance(physics, torch.nn.Module) else ()
    return tensors[0].device if tensors else torch.device("cpu")
