"""Initial weights: one initializer per tensor, drawn from the counter-based generator.

Convolutions follow torch's default; the initializers of the normalizations are in `normalization.py`. Modules of ncsnx
list one initializer per tensor in their attribute `initializers`. Any other module starts as its constructor leaves it.
"""

import math
from collections.abc import Mapping
from typing import Protocol

import attrs
import torch
from torch import Tensor, nn

from ncsnx.randomness import Purpose, Stream


class Initializer(Protocol):
    """The distribution that a tensor is drawn from."""

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        """The draw at (position, step) of the stream: a float32 CPU tensor of this shape."""
        ...


@attrs.frozen
class Constant:
    """A constant value."""

    value: float

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        return torch.full(shape, self.value)


@attrs.frozen
class UniformWeights:
    """Uniform distribution from `low` to `high`."""

    low: float
    high: float

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        unit = stream.uniform(torch.tensor([position]), shape, step)[0]
        return self.low + (self.high - self.low) * unit


@attrs.frozen
class Normal:
    """Normal distribution with this mean and standard deviation."""

    mean: float
    standard_deviation: float

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        return self.mean + self.standard_deviation * stream.normal(torch.tensor([position]), shape, step)[0]


@attrs.frozen
class UnitVector:
    """Uniform distribution on the unit sphere."""

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        return nn.functional.normalize(stream.normal(torch.tensor([position]), shape, step)[0], dim=0)


@attrs.frozen
class Columns:
    """A matrix whose columns form equal groups with one initializer each; every group is drawn at its own step."""

    initializers: tuple[Initializer, ...]

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        rows, columns = shape
        group = (rows, columns // len(self.initializers))
        return torch.cat(
            [initializer(stream, position, group, step + k) for k, initializer in enumerate(self.initializers)], dim=1
        )


def fan_in_uniform(fan_in: int) -> UniformWeights:
    """torch's default for weight and bias of a convolution: U(−b, b) with b = 1/√fan_in."""
    bound = 1 / math.sqrt(fan_in)
    return UniformWeights(-bound, bound)


def initialize(network: nn.Module, seed: int) -> None:
    """Fills the tensors that have an initializer, in place, determined by `seed`; other tensors stay unchanged.

    A tensor's position in the stream is the rank of its name among the sorted names of the state.
    """
    stream = Stream(seed, Purpose.WEIGHTS)
    initializers: dict[str, Initializer] = {}
    for prefix, module in network.named_modules():
        own: Mapping[str, Initializer] = getattr(module, "initializers", {})
        initializers.update({f"{prefix}.{name}" if prefix else name: initializer for name, initializer in own.items()})
    for position, (name, tensor) in enumerate(sorted(network.state_dict().items())):
        if name in initializers:
            tensor.copy_(initializers[name](stream, position, tuple(tensor.shape)))
