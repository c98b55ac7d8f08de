"""Optimizers on a CPU as on CUDA."""

import importlib

import pytest

from ncsnx.training import optimizers


def build_optimizers_as_on_cuda(patch: pytest.MonkeyPatch) -> None:
    """Has optimizers built as for parameters on CUDA, on torch's meta device too."""
    patch.setattr(optimizers, "_execution_of", lambda parameters: {"fused": True})
    for module in map(importlib.import_module, ("torch.optim.adam", "torch.optim.sgd")):
        patch.setattr(module, "_device_dtype_check_for_fused", lambda *_, **__: None, raising=False)
