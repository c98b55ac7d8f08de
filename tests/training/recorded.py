"""Steps on a CPU as on CUDA: optimizers with tensors, and recordings that stand for CUDA graphs."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ncsnx.capturing import Recording
from ncsnx.training import optimizers


def build_optimizers_as_on_cuda(patch: pytest.MonkeyPatch) -> None:
    """Has optimizers built as for parameters on CUDA, with the learning rate in a tensor."""

    def at(lr: float, parameters: list[nn.Parameter], on_cuda: dict[str, bool]) -> dict[str, Any]:
        return {"lr": torch.tensor(lr), **on_cuda}

    patch.setattr(optimizers, "_at", at)
    for module in map(importlib.import_module, ("torch.optim.adam", "torch.optim.rmsprop", "torch.optim.sgd")):
        for check in ("_get_capturable_supported_devices", "_device_dtype_check_for_fused"):
            patch.setattr(module, check, lambda *_, **__: ["cpu", "meta"], raising=False)


def call_again(function: Callable[..., Tensor], inputs: Sequence[Tensor | None]) -> Recording:
    """A recording that calls the function on its inputs, so that state must be put back as for a graph."""
    result = function(*inputs)
    return result, lambda: result.copy_(function(*inputs))


def refuse(function: Callable[..., Tensor], inputs: Sequence[Tensor | None]) -> Recording:
    """A recording that fails after the call."""
    function(*inputs)
    raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
