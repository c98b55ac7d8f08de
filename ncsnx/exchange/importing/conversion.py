"""The tensors of a published checkpoint under the names of a run's: the same numbers, as training writes them.

Raw and averaged weights, and the optimizer's state, which the published file numbers in the order of the parameters in
its own network state, and which is kept by name here.
"""

from collections.abc import Callable, Iterator

import torch

from ncsnx.config import Experiment
from ncsnx.config.checks import quoted
from ncsnx.errors import NcsnxError
from ncsnx.exchange.importing.fitting import kept_state, published_parameters
from ncsnx.exchange.published_files import PublishedCheckpoint, number_in
from ncsnx.networks import from_published, meta_network
from ncsnx.runs.checkpoints import checkpoint
from ncsnx.runs.checkpoints.checkpoint import Tensors
from ncsnx.training.optimizers import build_optimizer

# Those that don't change what a step computes; `fused` and `foreach` say how, the learning rate of a warm-up's start is
# not that of its end.
_IMMATERIAL = frozenset(("params", "foreach", "fused", "capturable", "differentiable", "initial_lr"))
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def parts(
    experiment: Experiment, published: PublishedCheckpoint, check_stop: Callable[[], None]
) -> Iterator[tuple[str, Tensors]]:
    """The parts of the checkpoint, as they are written: names and tensors, one after another.

    `published` gives its weights up on the way, so that they needn't be in memory twice. check_stop is asked before
    each part, and ends the work by raising. Raises NcsnxError for numbers that aren't finite.
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
        # what isn't trained, such as running statistics, isn't averaged either: it is the network's
        state |= {ours: published.ema.pop(theirs) for theirs, ours in names.items()}
        yield "ema", _prepared(published, state, types)
        state.clear()
    check_stop()
    yield "optimizer", _prepared(published, _optimizer(experiment, published, order), {})


def _optimizer(experiment: Experiment, published: PublishedCheckpoint, order: list[str]) -> Tensors:
    """By kind and our name; `order` are our names of the file's parameters, in the file's order."""
    if not kept_state(experiment.optimizer):
        return {f"{checkpoint.UNTOUCHED}/{name}": torch.zeros(0) for name in order}
    return {
        f"{key}/{name}": value
        for name, state in zip(order, published.optimizer.states, strict=True)
        for key, value in state.items()
    }


def _prepared(published: PublishedCheckpoint, tensors: Tensors, types: dict[str, torch.dtype]) -> Tensors:
    """As they are written: finite, float32 (or the integers of a counter), each in memory of its own."""
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
            raise NcsnxError(
                f"{published.path}: {quoted(name)} holds numbers that are not finite, and does not become a checkpoint"
            )
        seen.add(place)
        ready[name] = plain
    return ready


def import_remarks(experiment: Experiment, published: PublishedCheckpoint) -> list[str]:
    """What a person should know about a file that fits: settings of its optimizer, its name, its number format."""
    said = []
    named = number_in(published.path)
    if named is not None and named != published.step:
        said.append(f"{published.path.name} is named after step {named:,}, but holds step {published.step:,}")
    if changed := _other_settings(experiment, published):
        said.append(
            f"the optimizer of {published.path.name} had {', '.join(changed)}; training would resume with the "
            "experiment's values, and optimizer.FIELD=VALUE changes those"
        )
    kinds = {tensor.dtype for tensor in [*published.network.values(), *(published.ema or {}).values()]}
    if others := sorted(str(kind).removeprefix("torch.") for kind in kinds & set(_FLOATS) - {torch.float32}):
        said.append(f"{published.path.name} holds weights as {', '.join(others)}; they were converted to float32")
    return said


def _other_settings(experiment: Experiment, published: PublishedCheckpoint) -> list[str]:
    """The settings of the file's optimizer that aren't those of the experiment's, where both have one."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    ours = build_optimizer(experiment.optimizer, [parameter]).param_groups[0]
    theirs = published.optimizer.settings
    shared = [
        key
        for key in ours
        if key in theirs and key not in _IMMATERIAL and not (key == "lr" and experiment.warmup_steps)
    ]
    return [f"{key} {theirs[key]} (here {ours[key]})" for key in shared if theirs[key] != ours[key]]
