"""Operators that torch.compile can't look into, for what it compiles wrongly."""

from typing import Any

import torch


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
