"""The 5×5 pools and the resizing of refinement blocks, with right gradients in every execution.

torch 2.13 can silently compile a backward pass that scatters into zeros to wrong gradients on CPUs: what reads the
result is fused before the scatter (pytorch #185509). It was seen with max pools; the backward pass of bilinear resizing
is decomposed to the same form. Compiled code therefore calls both, and their backward passes, as operators that the
compiler can't look into. Eager code calls torch's.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ncsnx.networks.layers import is_compiling, opaque

_SIZE, _PADDING = 5, 2


def max_pool(x: Tensor) -> Tensor:
    """5×5 max pool of stride 1, padded with −∞."""
    if is_compiling():
        pooled: Tensor = _max_pool(x)[0]
        return pooled
    return F.max_pool2d(x, _SIZE, stride=1, padding=_PADDING)


def mean_pool(x: Tensor) -> Tensor:
    """5×5 mean pool of stride 1, padded with zeros that count towards the mean.

    It pads explicitly, because on CUDA the gradient of a padding pool is silently wrong in channels_last (pytorch
    #188344).
    """
    return F.avg_pool2d(F.pad(x, (_PADDING,) * 4), _SIZE, stride=1)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """x resized to (height, width), bilinear with aligned corners; the same size returns x."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if is_compiling():
        result: Tensor = _resize(x, list(size))
        return result
    return _resize_forward(x, size)


def _max_pool_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima, and their places in the image (int64)."""
    maxima, places = F.max_pool2d(x, _SIZE, stride=1, padding=_PADDING, return_indices=True)
    return maxima, places


def _max_pool_gradient(upstream: Tensor, x: Tensor, places: Tensor) -> Tensor:
    """The gradient by x."""
    backward = torch.ops.aten.max_pool2d_with_indices_backward
    by_x: Tensor = backward(upstream, x, [_SIZE] * 2, [1, 1], [_PADDING] * 2, [1, 1], False, places)
    return by_x


def _resize_forward(x: Tensor, size: Sequence[int]) -> Tensor:
    # in the type of x: autocast resizes in float32 on CUDA
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True).to(x.dtype)


def _resize_gradient(upstream: Tensor, size: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The gradient by an image of this shape that was resized to `size`."""
    by_x: Tensor = torch.ops.aten.upsample_bilinear2d_backward(upstream, size, shape, True, None, None)
    return by_x


def _fake_resize_gradient(upstream: Tensor, size: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The shape and strides of `_resize_gradient`; torch's operator takes no symbolic sizes there."""
    order = torch.contiguous_format if upstream.is_contiguous() else torch.channels_last
    return torch.empty(tuple(shape), dtype=upstream.dtype, device=upstream.device, memory_format=order)


_max_pool = opaque("max_pool", _max_pool_forward)
_max_pool_backward = opaque("max_pool_backward", _max_pool_gradient)
_resize = opaque("resize", _resize_forward)
_resize_backward = opaque("resize_backward", _resize_gradient, _fake_resize_gradient)


def _save_places(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _backward_of_max_pool(ctx: Any, upstream: Tensor, of_places: Tensor | None) -> Tensor:
    by_x: Tensor = _max_pool_backward(upstream, *ctx.saved_tensors)
    return by_x


def _save_sizes(ctx: Any, inputs: tuple[Tensor, list[int]], output: Tensor) -> None:
    x, size = inputs
    ctx.size, ctx.shape = list(size), list(x.shape)


def _backward_of_resize(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
    return _resize_backward(upstream, ctx.size, ctx.shape), None


_max_pool.register_autograd(_backward_of_max_pool, setup_context=_save_places)
_resize.register_autograd(_backward_of_resize, setup_context=_save_sizes)
