"""Runtime choices of a command: device, threads, execution of the network, data workers.

They aren't part of an experiment or its identity. They are recorded for every segment of a run, since results are
bit-identical only under equal choices on one machine.
"""

import os
import platform
import re
import shutil
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import attrs
import torch

from ncsnx.config.experiment import Experiment, Precision
from ncsnx.config.model import Model, UNet
from ncsnx.config.pretrained import Declared
from ncsnx.errors import Hint, UsageError, shortened
from ncsnx.model_spec import ModelSpec
from ncsnx.networks import Execution
from ncsnx.quantities import counted
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.spelling import argument, parameter
from ncsnx.storage.cache import cache_folder
from ncsnx.tensorfloat import allow_tf32

_FP32_FIELD = "precision=fp32"
_CPU_FACTS = Path("/proc/cpuinfo")  # on Linux


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
    checkpointing: bool = attrs.field(default=False)
    """Compute the activations of blocks again in the backward pass; saves memory, and the bits are the same."""
    workers: int = 0
    """Processes that read ahead data that doesn't fit in memory; 0: the main process reads."""
    ranks: int = 1
    """Processes that share the work."""
    precision: Precision | None = attrs.field(default=None)
    """Number format of a trained network; None: the experiment's. Training uses the experiment's only."""

    @checkpointing.validator
    def _is_not_compiled(self, attribute: "attrs.Attribute[bool]", value: bool) -> None:
        if value and self.compile:
            raise UsageError(
                f"{parameter('checkpointing')} and {parameter('compile')} exclude each other: a compiler decides by "
                "itself what it computes again",
                Hint(f"leave out {parameter('compile')}"),
            )

    @precision.validator
    def _is_known(self, attribute: "attrs.Attribute[Precision | None]", value: Precision | None) -> None:
        if value is not None and value not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise UsageError(f"{parameter('precision')} {shortened(ascii(value))}: expected one of {known}")

    @classmethod
    def choose(
        cls,
        *,
        device: str = "auto",
        threads: int | None = None,
        compile: bool = False,
        ranks: RankGroup = ALONE,
        **choices: Any,
    ) -> "Runtime":
        """The choices that the options mean. Sets torch's threads and CUDA flags. Raises UsageError.

        ranks: those that run the command, each on a GPU of its own. choices: further fields.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        chosen = _device(device) if ranks.world == 1 else _device_of(ranks, device)
        if chosen.type == "cuda":
            if chosen.index is not None:  # else pinned memory would open a context on the first GPU too
                torch.cuda.set_device(chosen)
            _turn_off_tf32()
        runtime = cls(device=chosen, threads=torch.get_num_threads(), ranks=ranks.world, **choices)
        return runtime.compiled() if compile else runtime

    def compiled(self) -> "Runtime":
        """The same choices with compilation, whose code is kept. Raises UsageError if this machine can't compile."""
        needed, variable, usual = _COMPILERS["cuda" if self.device.type == "cuda" else "cpu"]
        compilers = [named] if (named := os.environ.get(variable)) else usual
        has_triton = self.device.type != "cuda" or find_spec("triton") is not None
        if not has_triton or not any(map(shutil.which, compilers)):
            raise UsageError(
                f"{parameter('compile')} needs {needed} ({' or '.join(usual)}, or the program that {variable} names), "
                "which this machine lacks",
                Hint("install what is missing"),
                Hint(f"or leave out {parameter('compile')}"),
            )
        keep_compiled_code()
        return attrs.evolve(self, compile=True)

    def for_training(self, experiment: Experiment) -> "Runtime":
        """The same choices with the experiment's precision. Raises UsageError if it needs another device."""
        if (refusal := self._refusal(experiment.precision)) is not None:
            raise UsageError(f"precision={experiment.precision} {refusal}", Hint("use fp32", adds=_FP32_FIELD))
        return attrs.evolve(self, precision=None)

    def for_weights_of(self, declared: Declared | ModelSpec) -> "Runtime":
        """Returns itself. Raises UsageError if the precision, own or the model's, needs another device."""
        precision = self.precision_for(declared)
        if (refusal := self._refusal(precision)) is not None:
            trained = f"the network was trained in {precision}, which"
            own = trained if self.precision is None else argument("precision", precision)
            raise UsageError(f"{own} {refusal}", Hint("use fp32", adds=argument("precision", "fp32")))
        return self

    def precision_for(self, declared: Declared | ModelSpec) -> Precision:
        """Number format of the trained network."""
        return declared.precision if self.precision is None else self.precision

    def execution(self, declared: Declared) -> Execution:
        """Execution of the network under these choices."""
        return Execution(
            memory_format="contiguous" if self._is_contiguous(declared.model) else "channels_last",
            fused=not self.plain,
            compile=self.compile,
            precision=self.precision_for(declared),
            checkpointing=self.checkpointing,
        )

    def facts(self) -> dict[str, Any]:
        """The choices and the device's name, as they are recorded."""
        choices = attrs.asdict(self, filter=lambda field, value: value is not None)
        return {**choices, "device": str(self.device), "device_name": device_name(self.device)}

    def _is_contiguous(self, model: Model) -> bool:
        """Whether images are contiguous in memory. On MPS, pools and normalizations have wrong gradients in
        channels_last (pytorch #189233, #175189); on CUDA, GroupNorm's output is contiguous in either format."""
        return self.plain or self.device.type == "mps" or (self.device.type == "cuda" and isinstance(model, UNet))

    def _refusal(self, precision: Precision) -> str | None:
        """Why the device can't run in this precision, as a clause; None if it can."""
        if self.device.type != "cuda":
            return f"runs on CUDA only, and the device is {self.device}" if precision == "tf32" else None
        if precision == "fp32" or (found := torch.cuda.get_device_capability(self.device)) >= _AMPERE:
            return None
        return f"needs a GPU of compute capability 8.0 (Ampere) or above; {self.device} has {found[0]}.{found[1]}"


_AMPERE = (8, 0)
"""Compute capability of the first GPUs that multiply in TF32 and bfloat16."""
_COMPILERS = {
    "cpu": ("a C++ compiler", "CXX", ["g++"]),
    "cuda": ("the package triton and a C compiler", "CC", ["gcc", "clang"]),
}
"""Device → what torch.compile needs, the variable that names the compiler, and usual compilers."""


def keep_compiled_code() -> None:
    """Has torch.compile keep its code in the cache folder, unless the user chose another one for it.

    A second start then loads it. Raises UsageError if the cache folder's path isn't a folder.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))


def _turn_off_tf32() -> None:
    """Turns off TF32, which would miss the published scores by more than 2e-5."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of torch 2.10, about older names
        allow_tf32(convolutions=False, products=False)


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


def _device_of(ranks: RankGroup, wanted: str) -> torch.device:
    """The device of a rank: a GPU of its own, or the processors, which the ranks of a machine share."""
    device = _device(wanted)
    if device.index is not None:
        raise UsageError(
            f"{parameter('device')} {wanted}: each rank takes a GPU of its own, so none can be chosen",
            Hint("leave the number out", adds=argument("device", device.type)),
        )
    if device.type == "mps":
        raise UsageError("ranks run on CUDA or the CPU", Hint("use the CPU", adds=argument("device", "cpu")))
    if device.type != "cuda":
        return device
    if ranks.local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"rank {ranks.rank} has no GPU: this machine has {counted(torch.cuda.device_count(), 'GPU')} for "
            f"{counted(ranks.local_world, 'rank')}"
        )
    return torch.device("cuda", ranks.local_rank)


def device_name(device: torch.device) -> str:
    """The model of a GPU, or that of the processor with the instructions that torch uses."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    text = _CPU_FACTS.read_text() if _CPU_FACTS.exists() else ""
    names = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE)
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def fastest_s(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of some calls, after one for warm-up: other load can only slow them down."""
    seconds = list[float]()
    for _ in range(1 + times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
