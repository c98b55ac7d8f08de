"""Checkpoints: network, EMA and optimizer state as safetensors, the state of the training loop as JSON."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from ncsnx.errors import NcsnxError, shortened
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import STATE, UnsoundError, read_manifest, read_state, read_verified, write_checkpoint
from ncsnx.runs.names import part_file
from ncsnx.storage import atomic

Tensors = dict[str, Tensor]

_LENGTH_BYTES = 8
UNTOUCHED = "untouched"
"""Key for a parameter without optimizer state."""


class TensorFile:
    """The bytes that `safetensors.torch.save` gives for the same tensors, which may have any device and memory format.

    `safetensors.torch.save` makes all of it in memory, and no other thread runs Python meanwhile: for a gigabyte,
    training would stand still for seconds while a checkpoint is written in the background. `len` is their number; the
    pieces are made as they are read. The tensors must not change before.
    """

    def __init__(self, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
        empty = tensor_bytes({name: torch.empty(0, dtype=tensor.dtype) for name, tensor in tensors.items()}, metadata)
        entries = _header(empty)  # in the order of the file, and with the names of their types
        end = 0
        for name in (name for name in entries if name in tensors):
            entry = entries[name]
            start, end = end, end + tensors[name].nbytes
            entry |= {"shape": list(tensors[name].shape), "data_offsets": [start, end]}
        self._header = header_bytes(entries)
        self._size = len(self._header) + end
        self._tensors = [tensors[name] for name in entries if name in tensors]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._header
        for tensor in self._tensors:
            plain = tensor.detach().to("cpu").contiguous()
            yield plain.reshape(-1).view(torch.uint8).numpy().data


def header_bytes(entries: Mapping[str, Mapping[str, object]]) -> bytes:
    """Length and header of a file. entries: by name in the order of the file, metadata first."""
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _header(content: bytes) -> dict[str, dict[str, object]]:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    entries: dict[str, dict[str, object]] = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    return entries


class HostCopy:
    """Copies the training state into main memory, from which a checkpoint is written in the background.

    It keeps that memory for the next copy, since new memory takes longer to get.

    From CUDA, tensors are copied to pinned memory, and only `wait` waits for them.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[str, str], Tensor] = {}
        self._copied: list[torch.cuda.Event] = []

    @torch.no_grad()
    def take(self, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensors]:
        """Copies of all tensors by part and name, as they are now; complete after `wait`, valid until the next call.

        They keep their memory format, since a copy into another one takes ten times as long.
        """
        copies = {
            part: {name: self._copy((part, name), tensor) for name, tensor in tensors.items()}
            for part, tensors in parts.items()
        }
        devices = {tensor.device for tensors in parts.values() for tensor in tensors.values() if tensor.is_cuda}
        self._copied = [torch.cuda.current_stream(device).record_event() for device in devices]
        return copies

    def wait(self) -> None:
        """Waits until the copies are complete. May be called in another thread."""
        for event in self._copied:
            event.synchronize()

    def _copy(self, key: tuple[str, str], tensor: Tensor) -> Tensor:
        memory = self._memory.get(key)
        if memory is None or (memory.shape, memory.dtype) != (tensor.shape, tensor.dtype):
            memory = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda, requires_grad=False)
            self._memory[key] = memory
        return memory.copy_(tensor, non_blocking=tensor.is_cuda)


@attrs.frozen
class ImportedFrom:
    """The weights that a checkpoint comes from, directly or by further training."""

    file: str
    """File name."""
    sha256: str
    """sha256 of the file (hexadecimal)."""
    step: int
    license: str = "unknown"
    """License of the weights by its name on the Hub."""
    is_start: bool = False
    """Whether a new training started from these weights, rather than continued with its steps."""

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self | None:
        """The import recorded in a checkpoint's state; None if nothing was imported."""
        match state.get("imported"):
            case {"file": str(file), "sha256": str(sha256), "step": int(step), **others}:
                return cls(file, sha256, step, str(others.get("license", "unknown")), others.get("is_start") is True)
        return None


@attrs.frozen(eq=False)
class Checkpoint:
    """Content of a checkpoint, on the CPU. `model` is empty if it was not requested."""

    step: int
    model: Tensors
    ema: Tensors | None
    """Averaged weights; None if not requested or the run has no EMA."""
    optimizer: Tensors
    """The optimizer's state; empty if not requested or the checkpoint was imported."""
    state: dict[str, Any]


def save(
    run: Run,
    step: int,
    model: Mapping[str, Tensor],
    ema: Mapping[str, Tensor] | None,
    optimizer: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> Path:
    """Writes the checkpoint of `step` and returns its folder.

    Tensors may be on any device and in any memory format, and must not change meanwhile. `state` must be JSON; the step
    is added. Equal contents give equal bytes. Raises NcsnxError if writing fails; then nothing is left behind, and
    earlier checkpoints are unchanged.
    """
    parts = {"model": model, "optimizer": optimizer}
    if ema is not None:
        parts["ema"] = ema
    return write_checkpoint(run.checkpoints, step, contents(step, sorted(parts.items()), state))


def contents(
    step: int, parts: Iterable[tuple[str, Mapping[str, Tensor]]], state: Mapping[str, Any]
) -> Iterator[tuple[str, bytes | TensorFile]]:
    """Yields the files of a checkpoint as (name, content), for `write_checkpoint`.

    parts: 'model', and optionally 'optimizer' and 'ema'. It may be a generator: only one part is held at a time.
    state: as in `save`.
    """
    state_bytes = atomic.json_bytes(dict(sorted({**state, "step": step}.items())))
    for part, tensors in parts:
        yield part_file(part), TensorFile(tensors)
        del tensors  # freed before the next part is made
    yield STATE, state_bytes


def read_checkpoint(folder: Path, names: Iterable[str] = ("model", "ema", "optimizer")) -> Checkpoint:
    """Reads the parts `names` of a checkpoint. Each file's hash is checked before it is parsed.

    Raises UnsoundError for damaged files and for a missing part.
    """
    manifest = read_manifest(folder)
    parts: dict[str, Tensors] = {}
    for name in names:
        # a run without EMA and an imported checkpoint, which has no optimizer, have no such file: the manifest says so
        if name != "model" and part_file(name) not in manifest.files:
            continue
        parts[name] = _parsed(folder / part_file(name), read_verified(folder, manifest, part_file(name)))
    return Checkpoint(
        step=manifest.step,
        model=parts.get("model", {}),
        ema=parts.get("ema"),
        optimizer=parts.get("optimizer", {}),
        state=read_state(folder, manifest),
    )


def optimizer_state(optimizer: Optimizer, network: nn.Module) -> Tensors:
    """The optimizer's tensors by `{key}/{parameter name}`, such as `exp_avg/begin_conv.weight`; not copied.

    A parameter without state (before the first step, or with plain SGD) has the empty tensor `untouched/{name}`, so
    that loading can distinguish it from lost state.
    """
    tensors: Tensors = {}
    for name, parameter in _parameters(optimizer, network).items():
        state = {key: value for key, value in optimizer.state.get(parameter, {}).items() if value is not None}
        tensors |= {f"{key}/{name}": value for key, value in state.items()}
        if not state:
            tensors[f"{UNTOUCHED}/{name}"] = torch.zeros(0)
    return tensors


def load_optimizer_state(optimizer: Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads the result of `optimizer_state`, on each parameter's device and in its memory format.

    Settings such as the learning rate stay the optimizer's own. Raises NcsnxError, with the optimizer unchanged, for
    names without a parameter, parameters without an entry, and other shapes or types.
    """
    parameters = _parameters(optimizer, network)
    names = {entry.partition("/")[2] for entry in tensors}
    if names != set(parameters):
        other = ", ".join(map(shortened, sorted(names ^ set(parameters))[:3]))
        raise NcsnxError(f"the optimizer's state does not fit the network: only one of them has {other}")
    states: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    for entry, value in tensors.items():
        key, name = entry.split("/", 1)
        if key != UNTOUCHED:
            states[name][key] = _like(parameters[name], value, entry)
    # by the optimizer's own loading, which knows where state belongs (for example, fused steps on the device)
    numbered = {number: state for number, state in enumerate(states.values()) if state}
    optimizer.load_state_dict({"state": numbered, "param_groups": optimizer.state_dict()["param_groups"]})


def _parsed(path: Path, content: bytes) -> Tensors:
    try:
        return parse_tensors(content)
    except SafetensorError as error:
        raise UnsoundError(f"{path} is not a safetensors file: {error}") from error


def _parameters(optimizer: Optimizer, network: nn.Module) -> dict[str, nn.Parameter]:
    """The optimizer's parameters by name in the network, in the optimizer's order."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {names[parameter]: parameter for group in optimizer.param_groups for parameter in group["params"]}


def _like(parameter: nn.Parameter, value: Tensor, entry: str) -> Tensor:
    if value.ndim == 0 and not value.is_complex():  # a step count, which some optimizers keep
        return value.clone()
    theirs, ours = ((tuple(tensor.shape), tensor.dtype) for tensor in (value, parameter))
    if theirs != ours:
        raise NcsnxError(
            f"the optimizer's state does not fit the network: {shortened(entry)} has shape {theirs[0]} and type "
            f"{theirs[1]}, its parameter {ours[0]} and {ours[1]}"
        )
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
