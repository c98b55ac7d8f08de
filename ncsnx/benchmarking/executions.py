"""The executions that a benchmark compares."""

from collections.abc import Callable

import attrs
import torch

from ncsnx.networks import Execution
from ncsnx.runtime import has_fast_bf16, lacks_compiler

PLAIN = "plain"
PUBLISHED_CODE = "published"


@attrs.frozen
class NamedExecution:
    """A row of the benchmark."""

    name: str
    execution: Execution
    why_not: Callable[[torch.device], str | None] = lambda device: None
    """Why it is left out on a device; None: it isn't."""


def _no_compiler(device: torch.device) -> str | None:
    return "there is no C++ compiler" if lacks_compiler(device) else None


def _no_bf16(device: torch.device) -> str | None:
    return None if has_fast_bf16(device) else f"this {device.type} device does not multiply bf16 in hardware"


def _no_tf32(device: torch.device) -> str | None:
    return None if device.type == "cuda" else "TF32 is on CUDA only"


def _no_compiled_bf16(device: torch.device) -> str | None:
    return _no_bf16(device) or _no_compiler(device)


_BEST = Execution(memory_format="channels_last", fused=True)

EXECUTIONS = (
    NamedExecution(PLAIN, Execution()),
    NamedExecution("default", _BEST),
    NamedExecution("compiled", attrs.evolve(_BEST, compile=True), _no_compiler),
    NamedExecution("checkpointing", attrs.evolve(_BEST, checkpointing=True)),
    NamedExecution("tf32", attrs.evolve(_BEST, precision="tf32"), _no_tf32),
    NamedExecution("bf16", attrs.evolve(_BEST, precision="bf16"), _no_bf16),
    NamedExecution("bf16 compiled", attrs.evolve(_BEST, precision="bf16", compile=True), _no_compiled_bf16),
)
"""All executions. The first is the fp32 eager one that the errors are measured against."""


def chosen_executions(device: torch.device, *, compiles: bool) -> tuple[list[NamedExecution], dict[str, str]]:
    """The executions that the device can run, and name → reason for those that are left out."""
    chosen, left_out = [], {}
    for one in EXECUTIONS:
        reason = "compilation is off" if one.execution.compile and not compiles else one.why_not(device)
        if reason is None:
            chosen.append(one)
        else:
            left_out[one.name] = reason
    return chosen, left_out
