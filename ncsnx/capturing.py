"""Functions of tensors as CUDA graphs, which launch hundreds of recorded kernels at once.

A graph repeats kernels with the numbers and addresses that they were recorded with. What changes must therefore be in
tensors on the device, and what isn't an argument must stay where it is. The recipe is that of torch's notes on CUDA
semantics, section "CUDA Graphs": warm up on a side stream, capture, then copy arguments into place and replay.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

Argument: TypeAlias = Tensor | float | None
Recording: TypeAlias = tuple[Tensor, Callable[[], object]]
"""(result of a recorded call, replay): `replay` repeats the call and overwrites the result."""
Record: TypeAlias = Callable[[Callable[..., Tensor], Sequence[Tensor | None]], Recording]
"""(function, inputs) → recorded call, which reads the inputs whenever it is replayed."""

_WARM_UPS = 3
_MOST_GRAPHS = 4
"""Shapes of one function that are recorded: each keeps the memory of its intermediate results."""
_TOLERANCE = 1e-2
"""Largest relative difference from the function itself; a wrong graph differs by much more, rounding by less."""


def record_cuda_graph(function: Callable[..., Tensor], inputs: Sequence[Tensor | None]) -> Recording:
    """Records a call on the current CUDA device, after calls that warm up.

    Raises RuntimeError if it can't be recorded, for example because it waits for the device.
    """
    current = torch.cuda.current_stream()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    try:
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(*inputs)
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # NCCL has threads
            result = function(*inputs)
    finally:
        torch.cuda.set_stream(current)  # a capture that fails stays on its own
    return result, graph.replay


@attrs.frozen(eq=False)
class _Graph:
    """A recorded call with the tensors that it reads its arguments from."""

    inputs: Sequence[Tensor | None]
    recording: Recording

    def __call__(self, arguments: Sequence[Argument]) -> Tensor:
        _set(self.inputs, arguments)
        result, replay = self.recording
        replay()
        return result.clone()  # the next replay overwrites it


class CapturedFunction:
    """A function of tensors on a CUDA device, recorded once for each shape of its arguments and then replayed.

    The first two calls of a shape run the function; the third records it with the arguments of the second, and checks
    the graph with its own: results and changes must be the function's to 1 %. If recording fails or the check does, the
    function is called from then on, and a line says so; after four shapes it is for others, without a line. A number
    among the arguments becomes a 0-dim tensor where the function is recorded: int64 for an int, float32 for a float.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        name: str,
        *,
        changes: Callable[[], Iterable[Tensor]] = tuple,
        report: Callable[[str], None] = warnings.warn,
        record: Record | None = None,
    ) -> None:
        """name: what is captured, for the line. changes: the tensors that a call changes in place, of which recording
        and checking leave nothing. report: called with the line. record: default: `record_cuda_graph`."""
        self._function, self._name, self._changes = function, name, changes
        self._report, self._record = report, record or record_cuda_graph
        self._earlier: dict[object, list[Sequence[Argument]]] = {}
        self._graphs: dict[object, _Graph] = {}
        self._is_eager = False

    def __call__(self, *arguments: Argument) -> Tensor:
        """The function's result, on the device and not changed by later calls."""
        kind = tuple((one.shape, one.dtype, one.device) if isinstance(one, Tensor) else type(one) for one in arguments)
        if kind not in self._graphs and not self._is_eager:
            self._prepare(kind, arguments)
        if kind in self._graphs:
            return self._graphs[kind](arguments)
        return self._function(*arguments)

    def _prepare(self, kind: object, arguments: Sequence[Argument]) -> None:
        """Keeps the arguments of the first two calls of a kind, and adds its graph at the third."""
        if len(self._graphs) == _MOST_GRAPHS:
            self._earlier.clear()
            return
        earlier = self._earlier.setdefault(kind, [])
        if len(earlier) < 2:
            earlier.append(arguments)
        else:
            del self._earlier[kind]
            self._capture(kind, earlier[-1], arguments)

    def _capture(self, kind: object, earlier: Sequence[Argument], arguments: Sequence[Argument]) -> None:
        """Adds the graph of this kind of arguments; leaves the function eager if that fails."""
        device = next(one.device for one in arguments if isinstance(one, Tensor))
        changed, before = list(self._changes()), list[Tensor]()
        try:
            before = _copies(changed)
            with torch.cuda.device(device if device.type == "cuda" else -1):
                self._graphs[kind] = self._checked(earlier, arguments, device, changed, before)
        except RuntimeError as error:
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # what was begun on another stream
            self._is_eager = True
            self._earlier.clear()
            self._graphs.clear()
            self._report(f"{self._name} runs without CUDA graphs: {str(error).partition(chr(10))[0]}")
        finally:
            if before:
                _set(changed, before)

    def _checked(
        self,
        earlier: Sequence[Argument],
        arguments: Sequence[Argument],
        device: torch.device,
        changed: Sequence[Tensor],
        before: Sequence[Tensor],
    ) -> _Graph:
        """The graph, recorded with the earlier arguments and compared at the present ones. Raises RuntimeError."""
        inputs = [_input(one, device) for one in earlier]
        graph = _Graph(inputs, self._record(self._function, inputs))
        _set(changed, before)
        found = graph(arguments)
        found_after = _copies(changed)
        _set(changed, before)
        expected = self._function(*arguments)
        for what, difference in (
            ("result differs", _relative([found], [expected], [torch.zeros_like(expected)])),
            ("changes differ", _relative(found_after, changed, before)),
        ):
            if not difference <= _TOLERANCE:
                raise RuntimeError(f"a graph's {what} from the function's by {difference:.1g} of its size")
        return graph


def _input(argument: Argument, device: torch.device) -> Tensor | None:
    """A tensor of its own with the value of an argument."""
    if argument is None or isinstance(argument, Tensor):
        return None if argument is None else argument.detach().clone()
    return torch.full((), argument, dtype=torch.int64 if isinstance(argument, int) else torch.float32, device=device)


@torch.no_grad()
def _set(tensors: Sequence[Tensor | None], values: Sequence[Argument]) -> None:
    """Copies the values into the tensors, without waiting for the device."""
    for tensor, value in zip(tensors, values, strict=True):
        if isinstance(tensor, Tensor) and isinstance(value, Tensor):
            tensor.copy_(value)
        elif isinstance(tensor, Tensor) and value is not None:
            tensor.fill_(value)


@torch.no_grad()
def _copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def _relative(found: Sequence[Tensor], expected: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """‖found − expected‖ / ‖expected − before‖ over all tensors; 0 if both norms are."""

    def distance(ones: Sequence[Tensor], others: Sequence[Tensor]) -> float:
        pairs = zip(ones, others, strict=True)
        return math.sqrt(sum(float((one.double() - other.double()).square().sum()) for one, other in pairs))

    off, moved = distance(found, expected), distance(expected, before)
    return 0.0 if off == 0 else off / moved if moved > 0 else math.inf
