"""Conjugate gradients for (Aᴴ A + λ) x = b, for each image of a batch on its own (Hestenes & Stiefel 1952)."""

from collections.abc import Callable

import torch
from torch import Tensor


def solved(
    normal: Callable[[Tensor], Tensor],
    ridge: Tensor,
    right: Tensor,
    *,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """x from 0 after at most `iterations` steps: (B, C, H, W), the shape of b.

    normal: Aᴴ A. ridge: λ >= 0 of each image, (B, 1, 1, 1). right: b. An image stops on its own, once its residual is
    at most `tolerance` times b, so that it doesn't depend on its batch.
    """
    x, residual = torch.zeros_like(right), right
    direction, square = right, _square(right)
    least = tolerance**2 * square
    for _ in range(iterations):
        going = square > least
        if not bool(going.any()):
            break
        image = normal(direction) + ridge * direction
        curvature = _inner(direction, image)
        step = torch.where(going & (curvature > 0), square / curvature.clamp_min(_TINY), 0.0)
        x = x + step * direction
        residual = residual - step * image
        before, square = square, _square(residual)
        direction = residual + torch.where(going, square / before.clamp_min(_TINY), 0.0) * direction
    return x


_TINY = 1e-38


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """(B, 1, 1, 1)."""
    return (x * y).sum(dim=(1, 2, 3), keepdim=True)


def _square(x: Tensor) -> Tensor:
    return _inner(x, x)
