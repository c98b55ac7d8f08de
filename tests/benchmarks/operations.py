"""Operations of training steps, counted on torch's meta device:

    python -m tests.benchmarks.operations cifar10 cifar10_edm

An operation is about a launch of a kernel on a GPU, without views and allocations. Bytes are those that operations read
and write. All are of the second step, in the execution that CUDA gets.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import attrs
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ncsnx import randomness
from ncsnx.config import Experiment
from ncsnx.config.discovery import resolve
from ncsnx.networks import Network, prepare
from ncsnx.runtime import Runtime
from ncsnx.training import ema, optimizers
from ncsnx.training.ema import WeightAverage
from ncsnx.training.training_step import TrainingStep
from tests.meta_device import CPU, META, Watch
from tests.spaces import state_of

_NO_KERNEL = re.compile(r"(new_)?empty.*|_unsafe_view|promote_types|_record_function.*")


class Count(Watch):
    """Counts operations and their bytes, in all and by the random generator."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.bytes = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if not func.is_view and not _NO_KERNEL.fullmatch(func.overloadpacket.__name__):
            given = {name: value for name, value in (kwargs or {}).items() if name != "out"}  # which is the result
            tensors = [value for value in tree_leaves((args, given, result)) if isinstance(value, Tensor)]
            for kind in ("all", "generator") if _is_drawing() else ("all",):
                self.operations[kind] += 1
                self.bytes[kind] += sum(map(_size, tensors))
        return result


def _is_drawing() -> bool:
    """Whether the generator makes the call."""
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        if frame.f_globals is vars(randomness):
            return True
    return False


def _size(tensor: Tensor) -> int:
    """Bytes in memory; an expanded axis counts once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * torch.Size(side if stride else 1 for side, stride in sides).numel()


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Updates are fused, on the meta device too, which has no autocast."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(ema, "_takes_one_launch", lambda average, parameter: True))
        patches.enter_context(patch.object(optimizers, "_execution_of", lambda parameters: {"fused": True}))
        patches.enter_context(patch("torch.optim.adam._device_dtype_check_for_fused", lambda *_, **__: None))
        patches.enter_context(patch.object(Network, "autocast", lambda network, x: nullcontext()))
        yield


def counted_step(experiment: Experiment, *, plain: bool = False) -> dict[str, Count]:
    """The counts of the parts of a step: its inputs, forward and backward pass, and update."""
    experiment = attrs.evolve(experiment, accumulation=1, snapshots=None)
    state = state_of(experiment, Runtime(device=CPU, threads=1))
    on_cuda = Runtime(device=torch.device("cuda"), threads=1, plain=plain)
    network = prepare(state.network.to(META), on_cuda.execution(experiment))
    state.optimizer = optimizers.build_optimizer(experiment.optimizer, list(network.parameters()))
    state.average = None if experiment.ema is None else WeightAverage(network, experiment.ema.rate)
    step = TrainingStep(state, (0.0, 255.0))
    pixels = torch.empty(experiment.batch_size, *experiment.data.shape, dtype=torch.uint8, device=META)
    positions = torch.empty(experiment.batch_size, dtype=torch.int64, device=META)
    found = dict[str, Count]()

    def part(name: str, work: Callable[[], Any]) -> Any:
        with Count() as found[name]:
            return work()

    for _ in range(2):
        inputs = part("inputs", lambda: step.inputs(pixels, positions, positions))
        loss = part("forward", lambda inputs=inputs: step.loss_at(*inputs))
        part("backward", loss.backward)
        part("update", step.update)
    return found


def main() -> None:
    for name in sys.argv[1:] or ("cifar10", "cifar10_edm"):
        experiment = resolve(name).experiment
        for plain in (False, True):
            with as_on_cuda():
                found = counted_step(experiment, plain=plain)
            whole, size, drawn, drawn_size = (
                sum(counter[kind] for counter in counters)
                for kind in ("all", "generator")
                for counters in ([one.operations for one in found.values()], [one.bytes for one in found.values()])
            )
            waits = sum((one.waits for one in found.values()), Counter[str]())
            parts = ", ".join(f"{name} {one.operations['all']:,}" for name, one in found.items())
            print(
                f"{name}{' --plain' if plain else ''}: {whole:,} operations ({parts}), {size / 1e9:.1f} GB; by the "
                f"generator {drawn:,} ({drawn / whole:.1%}) and {drawn_size / size:.1%} of the bytes; "
                f"reads and copies: {dict(waits) or 'none'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
