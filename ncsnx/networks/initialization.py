"""How weights start: laws per tensor, drawn from the counter-based generator.

Convolutions follow torch's own default; the laws of the normalizations are in `normalization.py`. A module that
owns tensors lists a law for each of them in its attribute `laws`.
"""

import math
from collections.abc import Mapping
from typing import Protocol

import attrs
import torch
from torch import Tensor, nn

from ncsnx.randomness import Purpose, Stream


class Law(Protocol):
    """The distribution that a tensor is drawn from."""

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        """A float32 tensor of this shape, on the CPU: the draw at (position, step) of the stream."""
        ...


@attrs.frozen
class Constant:
    """One value everywhere."""

    value: float

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        return torch.full(shape, self.value)


@attrs.frozen
class Uniform:
    """Uniform from `low` to `high`."""

    low: float
    high: float

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        unit = stream.uniform(torch.tensor([position]), shape, step)[0]
        return self.low + (self.high - self.low) * unit


@attrs.frozen
class Normal:
    """Normal with this mean and standard deviation."""

    mean: float
    standard_deviation: float

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        return self.mean + self.standard_deviation * stream.normal(torch.tensor([position]), shape, step)[0]


@attrs.frozen
class UnitVector:
    """A direction, uniform on the sphere."""

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        return nn.functional.normalize(stream.normal(torch.tensor([position]), shape, step)[0], dim=0)


@attrs.frozen
class Columns:
    """A matrix whose columns come in equal groups, one law each; each group is drawn at a step of its own."""

    laws: tuple[Law, ...]

    def __call__(self, stream: Stream, position: int, shape: tuple[int, ...], step: int = 0) -> Tensor:
        rows, columns = shape
        group = (rows, columns // len(self.laws))
        return torch.cat([law(stream, position, group, step + k) for k, law in enumerate(self.laws)], dim=1)


def fan_in_uniform(fan_in: int) -> Uniform:
    """torch's default for the weight and the bias of a convolution: U(−b, b) with b = 1/√fan_in."""
    bound = 1 / math.sqrt(fan_in)
    return Uniform(-bound, bound)


def initialize(network: nn.Module, seed: int) -> None:
    """Fill every tensor of the network's state, in place, by its law; the result depends on `seed` alone.

    The position of a tensor in the stream is the rank of its name among the sorted names of the state.
    """
    stream = Stream(seed, Purpose.WEIGHTS)
    laws: dict[str, Law] = {}
    for prefix, module in network.named_modules():
        own: Mapping[str, Law] = getattr(module, "laws", {})
        laws.update({f"{prefix}.{name}": law for name, law in own.items()})
    for position, (name, tensor) in enumerate(sorted(network.state_dict().items())):
        tensor.copy_(laws[name](stream, position, tuple(tensor.shape)))
