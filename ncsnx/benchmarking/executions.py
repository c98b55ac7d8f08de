"""The executions that a benchmark compares."""

from collections.abc import Callable

import attrs
import torch

from ncsnx.config.experiment import Experiment, Precision
from ncsnx.runtime import Runtime, has_fast_bf16, lacks_compiler

PLAIN = "plain"
DEFAULT_EXECUTION = "default"
"""Name of the execution of commands without options."""
PUBLISHED_CODE = "published"


def _no_reason(device: torch.device) -> str | None:
    return None


@attrs.frozen(kw_only=True)
class NamedExecution:
    """A row of the benchmark."""

    name: str
    plain: bool = False
    compile: bool = False
    graphs: bool = False
    """Replay training steps and evaluations as CUDA graphs, on CUDA devices."""
    checkpointing: bool = False
    precision: Precision = "fp32"
    why_not: Callable[[torch.device], str | None] = _no_reason
    """Why it is left out on a device; None: it isn't."""

    def runtime(self, device: torch.device) -> Runtime:
        """The runtime choices of a command that runs so."""
        return Runtime(
            device=device,
            threads=torch.get_num_threads(),
            plain=self.plain,
            compile=self.compile,
            graphs=self.graphs and device.type == "cuda",
            checkpointing=self.checkpointing,
        )

    def experiment(self, experiment: Experiment) -> Experiment:
        """The experiment in this execution's number format."""
        return attrs.evolve(experiment, precision=self.precision)

    def as_eager(self) -> "NamedExecution":
        """The execution that runs the same operations one by one, without a name."""
        return attrs.evolve(self, name="", compile=False, graphs=False, why_not=_no_reason)


def _no_compiler(device: torch.device) -> str | None:
    return "there is no C++ compiler" if lacks_compiler(device) else None


def _no_bf16(device: torch.device) -> str | None:
    return None if has_fast_bf16(device) else f"this {device.type} device does not multiply bf16 in hardware"


def _no_tf32(device: torch.device) -> str | None:
    return None if device.type == "cuda" else "TF32 is on CUDA only"


def _no_compiled_bf16(device: torch.device) -> str | None:
    return _no_bf16(device) or _no_compiler(device)


def _no_cuda(device: torch.device) -> str | None:
    return None if device.type == "cuda" else "CUDA graphs are on CUDA only"


EXECUTIONS = (
    NamedExecution(name=PLAIN, plain=True),
    NamedExecution(name="no graphs", why_not=_no_cuda),
    NamedExecution(name=DEFAULT_EXECUTION, graphs=True),
    NamedExecution(name="compiled", compile=True, why_not=_no_compiler),
    NamedExecution(name="checkpointing", checkpointing=True),
    NamedExecution(name="tf32", precision="tf32", why_not=_no_tf32),
    NamedExecution(name="bf16", precision="bf16", why_not=_no_bf16),
    NamedExecution(name="bf16 compiled", precision="bf16", compile=True, why_not=_no_compiled_bf16),
)
"""All executions. The first is the fp32 eager one that the errors are measured against."""


def chosen_executions(device: torch.device, *, compiles: bool) -> tuple[list[NamedExecution], dict[str, str]]:
    """The executions that the device can run, and name → reason for those that are left out."""
    chosen, left_out = [], {}
    for one in EXECUTIONS:
        reason = "compilation is off" if one.compile and not compiles else one.why_not(device)
        if reason is None:
            chosen.append(one)
        else:
            left_out[one.name] = reason
    return chosen, left_out
