"""The convolutions of a network by themselves: the time that no execution of theirs can undercut.

A pass is recorded below autograd and autocast, so that each convolution has the memory order and type that it really
runs with. The recorded calls are then repeated on random numbers, without anything between them.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_FORWARD = torch.ops.aten.convolution.default
_BACKWARD = torch.ops.aten.convolution_backward.default


@attrs.frozen
class _TensorForm:
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    def filled(self, device: torch.device) -> Tensor:
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        numbers = torch.empty(last + 1, dtype=self.dtype, device=device).normal_()
        return numbers.as_strided(self.shape, self.strides)  # an expanded tensor has strides of 0


@attrs.frozen
class _Call:
    operation: Any
    arguments: tuple[Any, ...]

    @property
    def operations(self) -> int:
        """Floating-point operations; an addition and a multiplication count as two."""
        if self.operation is _FORWARD:
            x, weight, _, stride, padding, dilation = self.arguments[:6]
            sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
            pixels = x.shape[0]
            for size, kernel, step, pad, spread in sizes:
                pixels *= (size + 2 * pad - spread * (kernel - 1) - 1) // step + 1
            return int(2 * pixels * weight.shape[0] * _kernel_size(weight))
        gradient, _, weight = self.arguments[:3]
        pixels = gradient.shape[0] * gradient.shape[2] * gradient.shape[3]
        return int(2 * pixels * weight.shape[0] * _kernel_size(weight) * sum(self.arguments[-1][:2]))


def _kernel_size(weight: _TensorForm) -> int:
    return int(torch.Size(weight.shape[1:]).numel())


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[_Call] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (_FORWARD, _BACKWARD):
            self.calls[_Call(func, tuple(map(_form, args)))] += 1
        return func(*args, **(kwargs or {}))


def _form(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _TensorForm(tuple(value.shape), tuple(value.stride()), value.dtype)
    return tuple(value) if isinstance(value, list) else value


@attrs.frozen
class Convolutions:
    """The convolutions of a pass, with tensors to run them on."""

    calls: tuple[tuple[Any, tuple[Any, ...], int], ...]
    """(operation, arguments, how often it is called)."""
    operations: int
    """Floating-point operations of a pass."""

    @classmethod
    def of(cls, job: Callable[[], object], device: torch.device) -> "Convolutions":
        """The convolutions that an eager job runs, forward and backward."""
        with _Recorder() as recorder:
            job()
        made = tuple(
            (call.operation, tuple(_filled(value, device) for value in call.arguments), count)
            for call, count in recorder.calls.items()
        )
        operations = sum(count * call.operations for call, count in recorder.calls.items())
        return cls(made, operations)

    @torch.no_grad()
    def run(self) -> None:
        """Runs each of them as often as the pass does."""
        for operation, arguments, count in self.calls:
            for _ in range(count):
                operation(*arguments)


def _filled(value: Any, device: torch.device) -> Any:
    if isinstance(value, _TensorForm):
        return value.filled(device)
    return list(value) if isinstance(value, tuple) else value
