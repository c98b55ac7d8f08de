"""The published implementation's checkpoints: `checkpoint_….pth`, whose experiment the caller names.

The weights stay the same. The optimizer's state in the file is not taken over: training that resumes from an imported
checkpoint begins with a fresh optimizer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ncsnx.config import Experiment
from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.exchange.model_source import FLOATS, FoundModel, ModelSource, source
from ncsnx.exchange.published_files import PublishedCheckpoint, published_files, read_published
from ncsnx.networks import Network, from_published, meta_network, published_shapes, to_published
from ncsnx.networks.published_names import SIGMAS, same_levels
from ncsnx.quantities import counted, listed
from ncsnx.runs.checkpoint import Tensors
from ncsnx.runs.segments import ImportRecord
from ncsnx.space import Space
from ncsnx.work import Work


@source
class Published(ModelSource):
    """Checkpoints of github.com/ermongroup/ncsnv2."""

    kind = "ncsnv2"
    form = "a published checkpoint_….pth or a folder of them, with the experiment that trained it"

    def recognizes(self, address: str) -> bool:
        path = Path(address)
        return path.suffix == ".pth" or (path.is_dir() and any(path.glob("*.pth")))

    def files(self, address: str) -> Sequence[str]:
        return [str(path) for path in published_files(Path(address))]

    def read(self, address: str, experiment: Experiment | None, work: Work) -> FoundModel:
        if experiment is None:
            raise UsageError(
                f"{address} does not say what its network is",
                Hint("name the experiment that trained it", f"ncsnx import {address} EXPERIMENT"),
            )
        space = published_space(experiment)
        published = read_published(Path(address))
        work.check_stop()
        require_fit(experiment, published)
        return FoundModel(
            declared=experiment,
            space=space,
            record=ImportRecord(
                file=published.path.name,
                sha256=published.sha256,
                bytes=published.size,
                epoch=published.epoch,
                step=published.step,
            ),
            parts=partial(parts, experiment, published),
            has_average=published.ema is not None,
        )


def require_fit(experiment: Experiment, published: PublishedCheckpoint) -> None:
    """Raises NcsnxError with all differences if the checkpoint doesn't fit the experiment, and for NaN or infinity."""
    if differences := misfit(experiment, published):
        hint = Hint("choose the experiment that trained the file, or change the fields that differ")
        raise NcsnxError(f"{published.path} does not fit {experiment.name}: {'; '.join(differences)}", hint)
    network = meta_network(experiment)
    types = {theirs: network.state_dict()[ours].dtype for ours, theirs in to_published(network).items()}
    for tensors in (published.network, published.ema or {}):
        for name, tensor in tensors.items():
            wanted = types.get(name, torch.float32)
            if tensor.dtype != wanted and (wanted not in FLOATS or tensor.dtype not in FLOATS):
                raise NcsnxError(f"{published.path}: expected {wanted} as {quoted(name)}, found {tensor.dtype}")
            if wanted in FLOATS and not bool(torch.isfinite(tensor.to(wanted)).all()):
                raise NcsnxError(f"{published.path}: {quoted(name)} holds NaN or infinity, so the file is not imported")


def misfit(experiment: Experiment, published: PublishedCheckpoint) -> list[str]:
    """The differences between a checkpoint and an experiment, with the experiment's fields; none if it fits.

    Networks are compared by the names and shapes of their tensors, on torch's meta device, which allocates no memory. A
    missing or surplus tensor is a misfit: nothing is guessed. Raises NcsnxError if the network can't be built.
    """
    network = meta_network(experiment)
    expected, theirs = published_shapes(network), published.network
    if SIGMAS in theirs:  # optional in a conditional network's state
        expected = {**expected, SIGMAS: (len(network.noise_levels),)}
    differences = []
    first, width = theirs.get("begin_conv.weight"), getattr(experiment.model, "width", None)
    if first is not None and first.dim() == 4 and width not in (None, first.shape[0]):
        differences.append(f"model.width is {first.shape[0]} in the file, not {width}")
    levels, ours = theirs.get(SIGMAS), network.noise_levels
    if levels is not None and levels.dim() == 1 and len(levels) and not same_levels(network, levels):
        differences.append(
            f"schedule has {counted(len(levels), 'level')} from {levels[0]:g} to {levels[-1]:g} in the file, not "
            f"{len(ours):,} from {ours[0]:g} to {ours[-1]:g}"
        )
    differences += _compared(expected, _shapes(theirs), "tensor")
    if (experiment.ema is None) != (published.ema is None):
        holds = "no averaged weights" if published.ema is None else "averaged weights"
        differences.append(f"ema is {'set' if experiment.ema else 'none'}, and the file holds {holds}")
    elif published.ema is not None:
        parameters = {name: expected[name] for name in published_parameters(network)}
        differences += _compared(parameters, _shapes(published.ema), "averaged tensor")
    return differences


def published_parameters(network: Network) -> dict[str, str]:
    """Our name of each trained tensor, by its published name."""
    names = to_published(network)
    return {names[name]: name for name, _ in network.named_parameters()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _compared(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], what: str) -> list[str]:
    lists = {
        "missing": [name for name in expected if name not in found],
        "surplus": [quoted(name)[1:-1] for name in found if name not in expected],
        "of another shape": [
            f"{name} {shape} instead of {expected[name]}"
            for name, shape in found.items()
            if name in expected and expected[name] != shape
        ],
    }
    return [f"{counted(len(names), what)} {how} ({listed(names, 4)})" for how, names in lists.items() if names]


def parts(
    experiment: Experiment, published: PublishedCheckpoint, check_stop: Callable[[], None]
) -> Iterator[tuple[str, Tensors]]:
    """Yields the parts of the checkpoint to write, as (name, tensors).

    The weights in `published` are released on the way, so that they aren't in memory twice. check_stop: called before
    each part; may raise to stop.
    """
    network = meta_network(experiment)
    names = published_parameters(network)
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    state = from_published(network, published.network)

    def in_own_types() -> Tensors:
        return {name: tensor.to(types[name]) for name, tensor in state.items()}

    check_stop()
    yield "model", in_own_types()
    published.network.clear()
    if published.ema is not None:
        check_stop()
        # buffers such as running statistics aren't averaged: they are the network's
        state |= {ours: published.ema.pop(theirs) for theirs, ours in names.items()}
        yield "ema", in_own_types()


def published_space(experiment: Experiment) -> Space:
    """The space of a published network, whose images lay around the middle of [0, 1], also where the data is unbounded.

    Raises NcsnxError if the experiment doesn't declare the scale of unbounded data, or a σ_data that it depends on.
    """
    space = Space.of(experiment.data)
    if experiment.uses_sigma_data:
        space.known_sigma_data  # noqa: B018  raises
    center = space.center if space.logit else (space.span / 2 - space.offset) / space.scale
    return attrs.evolve(space, center=center, mean=(center,) * space.shape[0])
