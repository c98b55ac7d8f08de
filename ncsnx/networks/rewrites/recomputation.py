"""Activation checkpointing: blocks that keep only their inputs and are computed again in the backward pass.

Chen et al., arXiv 1604.06174. The gradients are equal to the bit. A second pass must not change what passes change in
training mode, the vectors of spectral normalization and running statistics. So it starts from the buffers of the first
one, and restores the current ones at its end.
"""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ncsnx.networks.blocks import (
    ChainedResidualPooling,
    MultiScaleFusion,
    ResidualBlock,
    ResidualConvolutionUnits,
)


class _Recomputed(nn.Module):
    """Mixin for a block: keeps its inputs, and computes the rest again in the backward pass."""

    def forward(self, *inputs: Any) -> Tensor:
        compute = super().forward
        if not torch.is_grad_enabled():
            out: Tensor = compute(*inputs)
            return out
        again = partial(_contexts, self)
        recomputed: Tensor = checkpoint(
            compute, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=again
        )
        return recomputed


class RecomputedResidualBlock(_Recomputed, ResidualBlock):
    """A residual block that is computed again in the backward pass."""


class RecomputedUnits(_Recomputed, ResidualConvolutionUnits):
    """Residual convolution units that are computed again in the backward pass."""


class RecomputedPooling(_Recomputed, ChainedResidualPooling):
    """Chained residual pooling that is computed again in the backward pass."""


class RecomputedFusion(_Recomputed, MultiScaleFusion):
    """Multi-scale fusion that is computed again in the backward pass."""


RECOMPUTED: Mapping[type[nn.Module], type[nn.Module]] = {
    ResidualBlock: RecomputedResidualBlock,
    ResidualConvolutionUnits: RecomputedUnits,
    ChainedResidualPooling: RecomputedPooling,
    MultiScaleFusion: RecomputedFusion,
}


def _contexts(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """Contexts of the first pass, which starts now, and of the second one."""
    before = [buffer.clone() for buffer in block.buffers()]
    return contextlib.nullcontext(), _with_buffers(block, before)


@contextlib.contextmanager
def _with_buffers(block: nn.Module, values: list[Tensor]) -> Iterator[None]:
    """Gives a block's buffers these values within the context, and restores the current ones after it."""
    current = [buffer.clone() for buffer in block.buffers()]
    _fill(block, values)
    try:
        yield
    finally:
        _fill(block, current)


@torch.no_grad()
def _fill(block: nn.Module, values: list[Tensor]) -> None:
    for buffer, value in zip(block.buffers(), values, strict=True):
        buffer.copy_(value)
