"""Converts the tensors of a published checkpoint to a run's names and format; the numbers stay the same.

It converts raw weights, averaged weights and the optimizer's state. The published file stores that state in the order
of the parameters in its network state; a run stores it by name.
"""

from collections.abc import Callable, Iterator

import torch

from ncsnx.config import Experiment
from ncsnx.config.checks import quoted
from ncsnx.errors import NcsnxError
from ncsnx.exchange.importing.fitting import kept_state, published_parameters
from ncsnx.exchange.published_files import PublishedCheckpoint, number_in
from ncsnx.networks import from_published, meta_network
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import Tensors
from ncsnx.training.optimizers import build_optimizer

# Settings that don't change what a step computes; `initial_lr` only records the learning rate before a scheduler.
_IMMATERIAL = frozenset(("params", "foreach", "fused", "capturable", "differentiable", "initial_lr"))
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def parts(
    experiment: Experiment, published: PublishedCheckpoint, check_stop: Callable[[], None]
) -> Iterator[tuple[str, Tensors]]:
    """Yields the parts of the checkpoint to write, as (name, tensors).

    The weights in `published` are released on the way, so that they aren't in memory twice. check_stop: called before
    each part; may raise to stop. Raises NcsnxError for NaN or infinity.
    """
    network = meta_network(experiment)
    names = published_parameters(network)
    order = [names[theirs] for theirs in published.network if theirs in names]
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    state = from_published(network, published.network)
    check_stop()
    yield "model", _prepared(published, state, types)
    published.network.clear()
    for ours in order:
        del state[ours]
    if published.ema is not None:
        check_stop()
        # buffers such as running statistics aren't averaged: they are the network's
        state |= {ours: published.ema.pop(theirs) for theirs, ours in names.items()}
        yield "ema", _prepared(published, state, types)
        state.clear()
    check_stop()
    yield "optimizer", _prepared(published, _optimizer(experiment, published, order), {})


def _optimizer(experiment: Experiment, published: PublishedCheckpoint, order: list[str]) -> Tensors:
    """Optimizer state by `key/name`. order: our names of the file's parameters, in the file's order."""
    if not kept_state(experiment.optimizer):
        return {f"{checkpoint.UNTOUCHED}/{name}": torch.zeros(0) for name in order}
    return {
        f"{key}/{name}": value
        for name, state in zip(order, published.optimizer.states, strict=True)
        for key, value in state.items()
    }


def _prepared(published: PublishedCheckpoint, tensors: Tensors, types: dict[str, torch.dtype]) -> Tensors:
    """Tensors ready to write: finite, float32 (integers for a counter), sharing no memory."""
    ready: Tensors = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        wanted = types.get(name, torch.float32)
        if tensor.dtype != wanted and (wanted not in _FLOATS or tensor.dtype not in _FLOATS):
            raise NcsnxError(f"{published.path}: expected {wanted} as {quoted(name)}, found {tensor.dtype}")
        plain = tensor.to(wanted).contiguous()
        place = plain.untyped_storage().data_ptr()
        if place in seen or plain.untyped_storage().nbytes() != plain.nbytes:
            plain = plain.clone()
            place = plain.untyped_storage().data_ptr()
        if wanted in _FLOATS and not bool(torch.isfinite(plain).all()):
            raise NcsnxError(f"{published.path}: {quoted(name)} holds NaN or infinity, so the file is not imported")
        seen.add(place)
        ready[name] = plain
    return ready


def import_remarks(experiment: Experiment, published: PublishedCheckpoint) -> list[str]:
    """Remarks on a file that fits: other optimizer settings, another step in its name, other number formats."""
    remarks = []
    named = number_in(published.path)
    if named is not None and named != published.step:
        remarks.append(f"{published.path.name} is named after step {named:,}, but holds step {published.step:,}")
    if changed := _other_settings(experiment, published):
        remarks.append(
            f"the optimizer of {published.path.name} had {', '.join(changed)}; training would use the experiment's "
            "values, and optimizer.FIELD=VALUE changes them"
        )
    kinds = {tensor.dtype for tensor in [*published.network.values(), *(published.ema or {}).values()]}
    if others := sorted(str(kind).removeprefix("torch.") for kind in kinds & set(_FLOATS) - {torch.float32}):
        remarks.append(f"{published.path.name} holds weights as {', '.join(others)}; they were converted to float32")
    return remarks


def _other_settings(experiment: Experiment, published: PublishedCheckpoint) -> list[str]:
    """Settings that the file's and the experiment's optimizers share but with other values, in words."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    ours = build_optimizer(experiment.optimizer, [parameter]).param_groups[0]
    theirs = published.optimizer.settings
    shared = [
        key
        for key in ours
        if key in theirs and key not in _IMMATERIAL and not (key == "lr" and experiment.warmup_steps)
    ]
    return [f"{key} {theirs[key]} (here {ours[key]})" for key in shared if theirs[key] != ours[key]]
