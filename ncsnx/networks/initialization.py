"""Initial weights: one initializer per tensor, drawn from the counter-based generator.

Convolutions follow torch's default; the initializers of the normalizations are in `normalization.py`. Modules of ncsnx
list one initializer per tensor in their attribute `initializers`. Any other module starts as its constructor leaves it,
with draws from `CounterBasedDraws`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import attrs
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ncsnx.errors import Hint, NcsnxError
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


def require_values(network: nn.Module) -> None:
    """Raises NcsnxError for an uninitialized tensor, which `CounterBasedDraws` fills with NaN."""
    for name, tensor in network.state_dict().items():
        if bool(torch.isnan(tensor).any()):
            raise NcsnxError(
                f"the network {type(network).__name__} has an uninitialized tensor, {name[:80]!a}",
                Hint("set it in the constructor, or list it in the attribute `initializers` of its module"),
            )


_WITHOUT_VALUES = (
    torch.ops.aten.empty,
    torch.ops.aten.empty_like,
    torch.ops.aten.empty_permuted,
    torch.ops.aten.empty_strided,
    torch.ops.aten.new_empty,
    torch.ops.aten.new_empty_strided,
)
"""Operators that allocate uninitialized memory."""
_Draw: TypeAlias = Callable[[Tensor, tuple[int, ...]], Tensor]


class CounterBasedDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which torch's uniform and normal draws come from the counter-based generator, in order of use.

    Modules from elsewhere are initialized as torch does it, but their numbers depend only on the seed, and no global
    generator is used. Uninitialized memory is filled with NaN. Raises NcsnxError for any other random draw.
    """

    _FIRST = 2**32  # beyond the ranks of names, which are the positions of tensors with initializers

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stream = Stream(seed, Purpose.WEIGHTS)
        self._position = self._FIRST

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch.compile must skip the draws: constructors aren't compiled, and to skip, torch imports
        torch._dynamo, which takes as long as importing torch."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        aten = torch.ops.aten
        if func is aten.uniform_.default:
            low, high = _with_defaults(args[1:])
            unit = self._draw(self._stream.uniform, args[0].shape, args[0].dtype)
            return args[0].copy_(low + (high - low) * unit)
        if func is aten.normal_.default:
            mean, deviation = _with_defaults(args[1:])
            unit = self._draw(self._stream.normal, args[0].shape, args[0].dtype)
            return args[0].copy_(mean + deviation * unit)
        if func in (aten.rand.default, aten.randn.default):
            draw = self._stream.uniform if func is aten.rand.default else self._stream.normal
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            return self._draw(draw, args[0], dtype).to(dtype)
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise NcsnxError(
                f"a network's constructor drew numbers by {func.overloadpacket.__name__}, which cannot be reproduced "
                "from the seed",
                Hint("use uniform_, normal_, rand or randn, or the functions of torch.nn.init built on them"),
            )
        result = func(*args, **kwargs)
        if func.overloadpacket in _WITHOUT_VALUES and (result.is_floating_point() or result.is_complex()):
            result.fill_(torch.nan)
        return result

    def _draw(self, draw: _Draw, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draws float32 numbers of this shape for a tensor of type `dtype`. Raises NcsnxError for complex types."""
        if dtype.is_complex:
            raise NcsnxError(f"a network's constructor drew numbers of {dtype}; expected a real type")
        if 0 in shape:
            return torch.empty(tuple(shape))
        self._position += 1
        return draw(torch.tensor([self._position]), tuple(shape))[0]


def _with_defaults(given: tuple[float, ...]) -> tuple[float, float]:
    """Both parameters of a draw, with torch's defaults of 0 and 1 for missing ones."""
    low, high = (*given, *(0.0, 1.0)[len(given) :])
    return low, high
