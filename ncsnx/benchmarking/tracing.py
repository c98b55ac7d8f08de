"""Other facts of a pass: time by kind of operation, operators called, bytes saved for backward, peak memory."""

import contextlib
import ctypes
import gc
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from ncsnx.benchmarking.rounds import wait_for

KINDS = ("convolution", "normalization", "pools", "resizing", "elementwise")
"""Kinds of operations in a network. The last has all others, copies included."""
_WORDS = (
    ("convolution", r"conv(?!ert)"),
    ("pools", r"pool|scatter_add"),
    ("resizing", r"upsample|interpolate"),
    ("normalization", r"norm|var|mean|::sum$"),
)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def kind_of_operation(name: str) -> str:
    """The kind of an operation, by its name in torch's profiler."""
    words = name.lower()
    return next((kind for kind, pattern in _WORDS if re.search(pattern, words)), "elementwise")


class _Stopwatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Seconds of operations by kind. Operations on CPUs end before they return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = dict.fromkeys(KINDS, 0.0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.seconds[kind_of_operation(str(func))] += time.perf_counter() - start
        return result


def shares_by_kind(job: Callable[[], object], device: torch.device, *, is_compiled: bool) -> dict[str, float]:
    """The share of each kind in the time of a job's operations; sums to 1."""
    if device.type == "cpu" and not is_compiled:
        with _Stopwatch() as watch:
            job()
        seconds = watch.seconds
    else:
        seconds = _profiled(job, device)
    total = sum(seconds.values()) or 1.0
    return {kind: value / total for kind, value in seconds.items()}


def _profiled(job: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Time by kind, by torch's profiler, which sees GPUs and compiled code."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "10")  # the profiler writes its start and stop to standard error
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as traced:
        job()
        wait_for(device)
    found = dict.fromkeys(KINDS, 0.0)
    for event in traced.key_averages():
        found[kind_of_operation(event.key)] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    return found


def is_kernel(operator: Any) -> bool:
    """Whether an operator, as dispatch modes see it, computes something: about as many launch a kernel on a GPU."""
    return not operator.is_view and operator.namespace != "prim"


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += is_kernel(func)
        return func(*args, **(kwargs or {}))


def kernel_count(job: Callable[[], object], device: torch.device, *, is_compiled: bool) -> int | None:
    """Kernels that a job launches on a GPU; on CPUs the operators that it calls, without views.

    None for compiled jobs on CPUs, whose operators torch doesn't show.
    """
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA]) as traced:
            job()
            wait_for(device)
        return sum(not event.name.startswith(("Mem", "cuda")) for event in traced.events() or ())
    if is_compiled:
        return None
    with _Counter() as counter:
        job()
    return int(counter.count)


def saved_bytes(forward: Callable[[], Tensor], parameters: Iterable[nn.Parameter]) -> int:
    """Bytes that a forward pass saves for its backward pass: distinct storages other than parameters."""
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    held: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            held[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    total = sum(storage.nbytes() for storage in held.values())
    del result
    return total


def peak_bytes(job: Callable[[], object], device: torch.device) -> int | None:
    """The most memory that a job holds above what is held before it; None where the system doesn't say.

    On GPUs the allocator's own count, on Linux the resident memory of this process.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        job()
        return int(torch.cuda.max_memory_allocated(device) - before)
    _return_free_memory()
    try:
        _CLEAR.write_text("5")  # resets the peak
        before = _status("VmRSS")
        job()
        return max(0, _status("VmHWM") - before)
    except (OSError, KeyError):
        job()
        return None


def _status(field: str) -> int:
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


def _return_free_memory() -> None:
    """Returns freed memory to the system, where the C library can; else the peak would miss what is reused."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
