"""Layers of the networks: convolutions that keep the image size (plain, spectrally normalized, followed by a 2×2 mean
pool, rounded), activations, and operators that torch.compile can't look into, for what it compiles wrongly."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncsnx.networks.initialization import Initializer, UnitVector, fan_in_uniform


def is_compiling() -> bool:
    """Whether torch.compile traces this call. Exported programs keep torch's operators: they run without ncsnx."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def opaque(name: str, function: Any, fake: Any = None) -> Any:
    """The function as an operator of its own, which compiled code calls with exactly the strides that were traced.

    fake: gives the shapes and strides of its results on fake tensors; by default the function itself.
    """
    tags = (torch.Tag.needs_exact_strides,)
    operator = torch.library.custom_op(f"ncsnx::{name}", function, mutates_args=(), tags=tags)
    operator.register_fake(function if fake is None else fake)
    return operator


class Convolution(nn.Module):
    """A size×size convolution, zero-padded to keep height and width. Its tensors start uninitialized."""

    def __init__(
        self, in_channels: int, out_channels: int, *, size: int = 3, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.size = size
        self.dilation = dilation
        weight = torch.empty(out_channels, in_channels, size, size)
        initializer = fan_in_uniform(in_channels * size**2)
        self.initializers = self._hold(weight, initializer)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        if bias:
            self.initializers["bias"] = initializer

    def _hold(self, weight: Tensor, initializer: Initializer) -> dict[str, Initializer]:
        self.weight = nn.Parameter(weight)
        return {"weight": initializer}

    @property
    def padding(self) -> int:
        """Number of zeros on each side."""
        return self.dilation * (self.size // 2)

    def kernel(self) -> Tensor:
        """The kernel, (out, in, size, size)."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, padding=self.padding, dilation=self.dilation)


class SpectralConvolution(Convolution):
    """A convolution whose kernel, as a matrix (out, rest), is divided by an estimate of its largest singular value.

    Spectral normalization (Miyato et al., arXiv 1802.05957, algorithm 1) as in torch's older implementation: one power
    iteration per forward pass in training mode, the stored vectors in evaluation mode.
    """

    weight_u: Tensor
    weight_v: Tensor

    def _hold(self, weight: Tensor, initializer: Initializer) -> dict[str, Initializer]:
        self.weight_orig = nn.Parameter(weight)
        self.register_buffer("weight_u", torch.empty(weight.shape[0]))
        self.register_buffer("weight_v", torch.empty(weight[0].numel()))
        return {"weight_orig": initializer, "weight_u": UnitVector(), "weight_v": UnitVector()}

    def kernel(self) -> Tensor:
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            matrix = self.weight_orig.flatten(1)
            if self.training:
                iterated = _opaque_power_iteration if is_compiling() else _power_iteration
                u, v = iterated(matrix.detach(), self.weight_u)
                self.weight_u.copy_(u)
                self.weight_v.copy_(v)
            else:
                # Copies, since a forward pass in training would overwrite what the backward pass needs.
                u, v = self.weight_u.clone(), self.weight_v.clone()
            return self.weight_orig / torch.dot(u, matrix @ v)


def _power_iteration(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    v = F.normalize(matrix.T @ u, dim=0, eps=1e-12)
    return F.normalize(matrix @ v, dim=0, eps=1e-12), v


# torch 2.13 can compile a backward pass that iterates again, from the vector that the forward pass has replaced
# (pytorch #197039).
_opaque_power_iteration = opaque("power_iteration", _power_iteration)


class PooledConvolution(nn.Module):
    """A convolution followed by a 2×2 mean pool; halves height and width, which must be even."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(x), 2)


_LEAK = 0.2  # slope of leaky_relu below zero
_elu_backward = torch.ops.aten.elu_backward.default
_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.default


@attrs.frozen
class ActivationFunction:
    """An activation function and what its derivative is computed from."""

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    """The same function; overwrites its argument."""
    gradient: Callable[[Tensor, Tensor], Tensor]
    """Gradient by the argument, from the gradient by the result and from result or argument (see `from_result`)."""
    from_result: bool = True
    """Whether `gradient` takes the result, not the argument, so that the argument needn't be kept."""


ACTIVATIONS: Mapping[str, ActivationFunction] = {
    "elu": ActivationFunction(
        F.elu, lambda x: F.elu(x, inplace=True), lambda upstream, y: _elu_backward(upstream, 1, 1, 1, True, y)
    ),
    "relu": ActivationFunction(
        F.relu, lambda x: F.relu(x, inplace=True), lambda upstream, y: torch.ops.aten.threshold_backward(upstream, y, 0)
    ),
    "leaky_relu": ActivationFunction(
        lambda x: F.leaky_relu(x, _LEAK),
        lambda x: F.leaky_relu(x, _LEAK, inplace=True),
        lambda upstream, y: _leaky_relu_backward(upstream, y, _LEAK, True),
    ),
    "swish": ActivationFunction(
        F.silu,
        lambda x: F.silu(x, inplace=True),
        lambda upstream, x: torch.ops.aten.silu_backward(upstream, x),
        from_result=False,
    ),
}


class ActivationLayer(nn.Module):
    """An activation function by its name in a model's configuration."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation.function(x)


class RoundedConvolution(Convolution):
    """A convolution that keeps its kernel in autocast's type between evaluations without gradients.

    Autocast itself forgets its casts at the end of each evaluation. Only frozen kernels are kept, which no optimizer
    changes: fused ones leave no mark. The kept kernel is renewed when the parameter was loaded or moved; writes through
    `.data` aren't noticed.
    """

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        changes = torch.is_grad_enabled() or self.weight.requires_grad or torch.compiler.is_compiling()
        rounds = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        kernel = self._rounded(torch.get_autocast_dtype(device)) if rounds and not changes else self.kernel()
        return F.conv2d(x, kernel, self.bias, padding=self.padding, dilation=self.dilation)

    def _rounded(self, dtype: torch.dtype) -> Tensor:
        kernel = self.kernel()
        if kernel.is_inference():  # it doesn't count its changes
            return kernel
        mark = (kernel._version, kernel.data_ptr(), kernel.stride(), dtype)
        kept: tuple[object, Tensor, Tensor] | None = self.__dict__.get("_kept")
        if kept is None or kept[0] != mark:
            # The alias keeps the memory from being used again, so that equal addresses mean the same kernel.
            kept = self.__dict__["_kept"] = (mark, kernel.detach().to(dtype), kernel.detach())
        return kept[1]
