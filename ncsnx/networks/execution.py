"""Execution of a network, separate from its definition: memory format, exact rewrites, precision, compilation.

A rewrite computes the same function of the same tensors in another order. `prepare` changes the class of a module in
place, so parameters, their names and optimizers that hold them stay valid.
"""

from collections.abc import Mapping
from typing import Literal

import attrs
import torch
from torch import nn

from ncsnx.capturing import CapturedFunction
from ncsnx.config.experiment import Precision
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.activations import ActivationLayer
from ncsnx.networks.convolution import Convolution, PooledConvolution
from ncsnx.networks.normalization import InstanceNorm, InstanceNormPlus, VarianceNorm
from ncsnx.networks.rewrites.folded_pooling import FoldedPooledConvolution
from ncsnx.networks.rewrites.fused_normalization import (
    FusedActivation,
    FusedInstanceNorm,
    FusedInstanceNormPlus,
    FusedVarianceNorm,
)
from ncsnx.networks.rewrites.recomputation import RECOMPUTED
from ncsnx.networks.rewrites.rounded_kernels import RoundedConvolution
from ncsnx.networks.score_function import ScoreFunction
from ncsnx.spelling import parameter

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
    graphs: bool = False
    """Replay evaluations without gradients as CUDA graphs, where the input is on a CUDA device."""
    precision: Precision = "fp32"
    """'tf32': all convolutions and matrix products in TensorFloat-32, on CUDA only. 'bf16': autocast for the body;
    first and last convolution, statistics and division by σ stay in fp32."""
    checkpointing: bool = False
    """Keep only the inputs of blocks for the backward pass and compute the rest again; equal to the bit."""


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


def prepare(network: ScoreFunction, execution: Execution) -> ScoreFunction:
    """Sets how the network runs, in place, and returns it.

    Parameters and the state dict keep their values. Kernels get the memory format, so that no pass has to convert them
    or their gradients; prepare a network before its optimizer is built, whose state follows. Raises NcsnxError for
    checkpointing of a network without the blocks of `ncsnx.networks.blocks`.
    """
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
    network._graph = CapturedFunction(network.evaluated, "the network") if execution.graphs else None
    return network


def _order_kernels(network: ScoreFunction, memory_format: torch.memory_format) -> None:
    """Puts the kernels of convolutions into the memory format.

    Subclasses of nn.Conv2d, which may rely on contiguous kernels, stay as they are.
    """
    for module in network.modules():
        if isinstance(module, Convolution) or type(module) is nn.Conv2d:
            for kernel in module.parameters(recurse=False):
                if kernel.dim() == 4:
                    kernel.data = kernel.data.contiguous(memory_format=memory_format)
