"""Runtime choices of a command: device, threads, execution of the network, data workers.

They aren't part of an experiment or its identity. They are recorded for every segment of a run, since results are
bit-identical only under equal choices on one machine.
"""

import platform
from typing import Any

import attrs
import torch

from ncsnx.config.experiment import Experiment
from ncsnx.errors import UsageError
from ncsnx.networks import Execution
from ncsnx.quantities import counted
from ncsnx.spelling import argument, parameter


@attrs.frozen(kw_only=True)
class Runtime:
    """Runtime choices of one command."""

    device: torch.device
    threads: int
    """CPU threads of torch. Sums are split over threads, so bits depend on their number."""
    plain: bool = False
    """Run the network as it is written, without the exact rewrites."""
    compile: bool = False
    """Run the network through `torch.compile`."""
    checkpointing: bool = False
    """Compute the activations of blocks again in the backward pass; saves memory, and the bits are the same."""
    workers: int = 0
    """Processes that read data ahead; 0: the main process reads."""

    @classmethod
    def choose(
        cls,
        *,
        device: str = "auto",
        threads: int | None = None,
        plain: bool = False,
        compile: bool = False,
        checkpointing: bool = False,
        workers: int = 0,
    ) -> "Runtime":
        """The choices that the options mean. Sets torch's threads and CUDA flags. Raises UsageError."""
        if checkpointing and compile:
            raise UsageError(
                f"{parameter('checkpointing')} and {parameter('compile')} exclude each other: a compiler decides by "
                "itself what it computes again"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        chosen = _device(device)
        if chosen.type == "cuda":
            _prefer_equal_numbers()
        return cls(
            device=chosen,
            threads=torch.get_num_threads(),
            plain=plain,
            compile=compile,
            checkpointing=checkpointing,
            workers=workers,
        )

    def execution(self, experiment: Experiment) -> Execution:
        """Execution of the experiment's network under these choices."""
        return Execution(
            memory_format="contiguous" if self.plain else "channels_last",
            fused=not self.plain,
            compile=self.compile,
            precision=experiment.precision,
            checkpointing=self.checkpointing,
        )

    def facts(self) -> dict[str, Any]:
        """The choices and the device's name, as they are recorded."""
        return {
            "device": str(self.device),
            "device_name": device_name(self.device),
            "threads": self.threads,
            "plain": self.plain,
            "compile": self.compile,
            "checkpointing": self.checkpointing,
            "workers": self.workers,
        }


def _prefer_equal_numbers() -> None:
    """Turns off TF32, which would miss the published scores by more than 2e-5, and cuDNN's nondeterministic choice of
    algorithms."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UsageError(f"{parameter('device')} {wanted}: expected auto, cpu, cuda, cuda:N or mps") from None
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        found = counted(torch.cuda.device_count(), "CUDA device")
        raise UsageError(
            f"{parameter('device')} {wanted}: is not on this machine ({found}); try {argument('device', 'auto')}"
        )
    return device


def device_name(device: torch.device) -> str:
    """The model of a GPU, or the kind of processor."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return platform.processor() or platform.machine()
