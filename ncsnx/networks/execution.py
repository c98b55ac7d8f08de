"""Execution of a network, separate from its definition: memory format, exact rewrites, precision, compilation.

A rewrite computes the same function of the same tensors in another order. `prepare` changes the class of a module in
place, so parameters, their names and optimizers that hold them stay valid.
"""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ncsnx.config.experiment import Precision
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.blocks import ChainedResidualPooling, MultiScaleFusion, ResidualBlock, ResidualConvolutionUnits
from ncsnx.networks.contract import Network
from ncsnx.networks.fused_normalization import (
    FusedActivation,
    FusedInstanceNorm,
    FusedInstanceNormPlus,
    FusedVarianceNorm,
)
from ncsnx.networks.layers import ActivationLayer, Convolution, PooledConvolution, RoundedConvolution
from ncsnx.networks.normalization import InstanceNorm, InstanceNormPlus, VarianceNorm
from ncsnx.networks.unet import UNetBlock
from ncsnx.spelling import argument, parameter

MemoryFormat = Literal["contiguous", "channels_last"]

_MEMORY_FORMATS: Mapping[MemoryFormat, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


@attrs.frozen(kw_only=True)
class Execution:
    """How to run a network. All choices agree to float32 accuracy, except tf32 and bf16."""

    memory_format: MemoryFormat = "contiguous"
    """Memory format of activations and of the kernels of convolutions; outputs are always contiguous."""
    contiguous_kernels: bool = False
    """Keep the kernels contiguous in either memory format; each pass then converts copies of them."""
    fused: bool = False
    """Fuse each normalization with its activation, and fold pools into their convolutions."""
    compile: bool = False
    """Compile evaluations and their gradients by torch.compile, at the first of each kind and shape."""
    precision: Precision = "fp32"
    """'tf32': all convolutions and matrix products in TensorFloat-32, on CUDA only. 'bf16': autocast for the body;
    first and last convolution, statistics and division by σ stay in fp32."""
    checkpointing: bool = False
    """Keep only the inputs of blocks for the backward pass and compute the rest again; equal to the bit."""


class FoldedPooledConvolution(PooledConvolution):
    """The pool folded into the convolution: 3×3 and 2×2 mean become one 4×4 convolution of stride 2.

    Its kernel is computed from the 3×3 kernel at every forward pass, so that gradients reach it. A 1×1 convolution
    commutes with the pool, so it is applied after it, to fewer pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.size == 1:
            out: Tensor = self.conv(F.avg_pool2d(x, 2))
            return out
        # The mean of the kernel at four places is its 2×2 mean pool of stride 1.
        folded = F.avg_pool2d(F.pad(self.conv.kernel(), (1, 1, 1, 1)), 2, stride=1)
        return F.conv2d(x, folded, self.conv.bias, stride=2, padding=self.conv.padding)


_FUSED: Mapping[type[nn.Module], type[nn.Module]] = {
    InstanceNormPlus: FusedInstanceNormPlus,
    InstanceNorm: FusedInstanceNorm,
    VarianceNorm: FusedVarianceNorm,
    ActivationLayer: FusedActivation,
    PooledConvolution: FoldedPooledConvolution,
    Convolution: RoundedConvolution,
}


def _inverse(rewrites: Mapping[type[nn.Module], type[nn.Module]]) -> Mapping[type[nn.Module], type[nn.Module]]:
    return {rewritten: plain for plain, rewritten in rewrites.items()}


def prepare(network: Network, execution: Execution) -> Network:
    """Sets how the network runs, in place, and returns it.

    Parameters and the state dict keep their values. Kernels get the memory format, so that no pass has to convert them
    or their gradients; prepare a network before its optimizer is built, whose state follows. Raises NcsnxError for
    checkpointing of a network without the blocks of `ncsnx.networks.blocks`, and for bf16 of a network of a package,
    whose input and output would be rounded too.
    """
    if execution.precision == "bf16" and not network.takes_bf16:
        raise NcsnxError(
            f"precision=bf16 rounds the input and the output of {type(network).__name__}, and the noise at small σ "
            "with them",
            Hint("use fp32", adds=argument("precision", "fp32")),
        )
    network.memory_format = _MEMORY_FORMATS[execution.memory_format]
    network.precision = execution.precision
    _order_kernels(network, torch.contiguous_format if execution.contiguous_kernels else network.memory_format)
    rewrites = {
        **(_FUSED if execution.fused else _inverse(_FUSED)),
        **(RECOMPUTED if execution.checkpointing else _inverse(RECOMPUTED)),
    }
    for module in network.modules():
        module.__class__ = rewrites.get(type(module), type(module))
    if execution.checkpointing and not any(type(module) in RECOMPUTED.values() for module in network.modules()):
        raise NcsnxError(
            f"{type(network).__name__} has none of the blocks whose activations can be computed again",
            Hint(f"train without {parameter('checkpointing')}"),
        )
    if execution.compile:
        network.compile()
    else:
        network._compiled_call_impl = None
    return network


def _order_kernels(network: Network, memory_format: torch.memory_format) -> None:
    """Puts the kernels of convolutions into the memory format.

    Subclasses of nn.Conv2d, which may rely on contiguous kernels, stay as they are.
    """
    for module in network.modules():
        if isinstance(module, Convolution) or type(module) is nn.Conv2d:
            for kernel in module.parameters(recurse=False):
                if kernel.dim() == 4:
                    kernel.data = kernel.data.contiguous(memory_format=memory_format)


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


RECOMPUTED: Mapping[type[nn.Module], type[nn.Module]] = {
    block: type(f"Recomputed{block.__name__}", (_Recomputed, block), {})
    for block in (ResidualBlock, ResidualConvolutionUnits, ChainedResidualPooling, MultiScaleFusion, UNetBlock)
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
