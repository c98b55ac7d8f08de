"""The activation functions available to networks, each with its derivative."""

from collections.abc import Callable, Mapping

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
