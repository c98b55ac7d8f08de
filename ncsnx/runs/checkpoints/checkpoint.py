"""Checkpoints: network, EMA and optimizer state as safetensors, the state of the training loop as JSON."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from ncsnx.config.checks import shortened
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import (
    STATE,
    UnsoundError,
    read_manifest,
    read_state,
    read_verified,
    write_checkpoint,
)
from ncsnx.runs.checkpoints.tensor_file import TensorFile
from ncsnx.runs.checkpoints.weight_sizes import WeightSizes, weight_sizes
from ncsnx.runs.folder import Run
from ncsnx.runs.names import part_file, step_name
from ncsnx.storage import atomic

Tensors = dict[str, Tensor]

UNTOUCHED = "untouched"
"""Key for a parameter without optimizer state."""


@attrs.frozen
class ImportedFrom:
    """The published checkpoint that the weights come from, directly or by further training."""

    file: str
    """File name."""
    sha256: str
    """sha256 of the file (hexadecimal)."""
    step: int

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self | None:
        """The import recorded in a checkpoint's state; None if nothing was imported."""
        match state.get("imported"):
            case {"file": str(file), "sha256": str(sha256), "step": int(step)}:
                return cls(file, sha256, step)
        return None


@attrs.frozen(eq=False)
class Checkpoint:
    """Content of a checkpoint, on the CPU. Parts that were not requested are empty."""

    step: int
    model: Tensors
    ema: Tensors | None
    """Averaged weights; None if not requested or the run has no EMA."""
    optimizer: Tensors
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
    is_there = os.path.lexists(run.checkpoints / step_name(step))
    sizes = weight_sizes(run.experiment()) if is_there else None
    return write_checkpoint(run.checkpoints, step, contents(step, sorted(parts.items()), state), sizes)


def contents(
    step: int, parts: Iterable[tuple[str, Mapping[str, Tensor]]], state: Mapping[str, Any]
) -> Iterator[tuple[str, bytes | TensorFile]]:
    """Yields the files of a checkpoint as (name, content), for `write_checkpoint`.

    parts: 'model', 'optimizer' and optionally 'ema'. It may be a generator: only one part is held at a time. state: as
    in `save`.
    """
    state_bytes = atomic.json_bytes(dict(sorted({**state, "step": step}.items())))
    for part, tensors in parts:
        yield part_file(part), TensorFile(tensors)
        del tensors  # freed before the next part is made
    yield STATE, state_bytes


def read_checkpoint(
    folder: Path, names: Iterable[str] = ("model", "ema", "optimizer"), sizes: WeightSizes | None = None
) -> Checkpoint:
    """Reads the parts `names` of a checkpoint. Each file's hash is checked before it is parsed.

    sizes: required sizes of the experiment's weights. Raises UnsoundError for damaged files, NcsnxError for a missing
    part.
    """
    manifest = read_manifest(folder, sizes)
    parts: dict[str, Tensors] = {}
    for name in names:
        # a run without EMA has no such file; the manifest confirms that
        if name == "ema" and part_file(name) not in manifest.files:
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
    names without a parameter, parameters without state, and other shapes or types.
    """
    parameters = _parameters(optimizer, network)
    _require_same_names(parameters, tensors)
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


def _require_same_names(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    keys_of: dict[str, set[str]] = {name: set() for name in parameters}
    unexpected = []
    for entry in tensors:
        key, _, name = entry.partition("/")
        if name in keys_of:
            keys_of[name].add(key)
        else:
            unexpected.append(entry)
    everywhere = set().union(*keys_of.values()) - {UNTOUCHED}
    missing = []
    for name, keys in keys_of.items():
        if not keys:
            missing.append(f"*/{name}")
        elif UNTOUCHED not in keys:
            missing += [f"{key}/{name}" for key in everywhere - keys]
    if unexpected or missing:
        raise NcsnxError(
            "the optimizer's state does not fit the network: "
            f"{len(missing)} missing{_some(missing)}, {len(unexpected)} unexpected{_some(unexpected)}"
        )


def _some(entries: list[str]) -> str:
    if not entries:
        return ""
    return f" ({', '.join(map(shortened, sorted(entries)[:3]))}{', …' if len(entries) > 3 else ''})"


def _like(parameter: nn.Parameter, value: Tensor, entry: str) -> Tensor:
    if value.ndim == 0 and not value.is_complex():  # a step count, which some optimizers keep
        return value.clone()
    if value.dtype != parameter.dtype:
        raise NcsnxError(
            f"the optimizer's state does not fit the network: {shortened(entry)} has type {value.dtype}, its parameter "
            f"{parameter.dtype}"
        )
    if value.shape != parameter.shape:
        raise NcsnxError(
            f"the optimizer's state does not fit the network: {shortened(entry)} has shape {tuple(value.shape)}, "
            f"its parameter {tuple(parameter.shape)}"
        )
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
