"""Execution of a network, separate from its definition: memory format, exact rewrites, precision, compilation.

A rewrite computes the same function of the same tensors in another order. `prepare` changes the class of a module in
place, so parameters, their names and optimizers that hold them stay valid.
"""

from collections.abc import Mapping
from typing import Literal

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncsnx.config.experiment import Precision
from ncsnx.networks.convolution import PooledConvolution
from ncsnx.networks.normalization import (
    EPSILON,
    InstanceNorm,
    InstanceNormPlus,
    VarianceNorm,
    relative_means,
)
from ncsnx.networks.score_function import ScoreFunction

MemoryFormat = Literal["contiguous", "channels_last"]

_MEMORY_FORMATS: Mapping[MemoryFormat, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


@attrs.frozen(kw_only=True)
class Execution:
    """How to run a network. All choices agree to float32 accuracy, except tf32 and bf16."""

    memory_format: MemoryFormat = "contiguous"
    """Memory format of activations; outputs are always contiguous."""
    fused: bool = False
    """Fuse each normalization into one multiply-add, and fold pools into their convolutions."""
    compile: bool = False
    """Compile evaluations and their gradients by torch.compile, at the first of each kind and shape."""
    precision: Precision = "fp32"
    """'tf32': all convolutions and matrix products in TensorFloat-32, on CUDA only. 'bf16': autocast for the body;
    first and last convolution, statistics and division by σ stay in fp32."""


class FusedInstanceNormPlus(InstanceNormPlus):
    """InstanceNorm++ as x · scale + shift; computes the channel means only once."""

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        gamma, alpha, beta = factors
        mean, variance = _moments(x)
        scale = gamma * torch.rsqrt(variance + EPSILON)
        shift = gamma * (alpha * relative_means(mean)) - scale * mean + beta
        return torch.addcmul(shift, x, scale)


class FusedInstanceNorm(InstanceNorm):
    """InstanceNorm as x · scale + shift."""

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        mean, variance = _moments(x)
        scale = torch.rsqrt(variance + self.epsilon)
        shift = -scale * mean
        if factors:
            gamma, beta = factors
            scale, shift = gamma * scale, gamma * shift + beta
        return torch.addcmul(shift, x, scale)


class FusedVarianceNorm(VarianceNorm):
    """VarianceNorm as x · scale."""

    def transform(self, x: Tensor, *factors: Tensor) -> Tensor:
        (alpha,) = factors
        _, variance = _moments(x, correction=1)
        return x * (alpha * torch.rsqrt(variance + EPSILON))


class FoldedPooledConvolution(PooledConvolution):
    """The pool folded into the convolution: 3×3 and 2×2 mean become one 4×4 convolution of stride 2.

    Its kernel is computed from the 3×3 kernel at every forward pass, so that gradients reach it. A 1×1 convolution
    commutes with the pool, so it is applied after it, to fewer pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.size == 1:
            out: Tensor = self.conv(F.avg_pool2d(x, 2))
            return out
        kernel = self.conv.kernel()
        shifts = [F.pad(kernel, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1)]
        folded = torch.stack(shifts).mean(dim=0)
        return F.conv2d(x, folded, self.conv.bias, stride=2, padding=self.conv.padding)


_FUSED: Mapping[type[nn.Module], type[nn.Module]] = {
    InstanceNormPlus: FusedInstanceNormPlus,
    InstanceNorm: FusedInstanceNorm,
    VarianceNorm: FusedVarianceNorm,
    PooledConvolution: FoldedPooledConvolution,
}
_PLAIN = {fused: plain for plain, fused in _FUSED.items()}


def prepare(network: ScoreFunction, execution: Execution) -> ScoreFunction:
    """Sets how the network runs, in place, and returns it. Parameters and the state dict stay unchanged."""
    network.memory_format = _MEMORY_FORMATS[execution.memory_format]
    network.precision = execution.precision
    rewrites = _FUSED if execution.fused else _PLAIN
    for module in network.modules():
        module.__class__ = rewrites.get(type(module), type(module))
    if execution.compile:
        network.compile()
    else:
        network._compiled_call_impl = None
    return network


def _moments(x: Tensor, correction: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of each image, (B, C, 1, 1). torch.var_mean takes twice as long on CPUs."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    deviation = torch.linalg.vector_norm(x - mean, dim=(2, 3), keepdim=True)
    return mean, deviation.square() / (x.shape[2] * x.shape[3] - correction)
