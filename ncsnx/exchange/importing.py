"""Imports published checkpoints into a run: what must fit, the conversion of their tensors, and the run.

The numbers stay the same. The published file stores the optimizer's state in the order of the parameters in its network
state; a run stores it by name.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import attrs
import torch
from torch import Tensor, nn

from ncsnx.config import Experiment, Optimizer
from ncsnx.config.codec import Difference, identity
from ncsnx.config.discovery import Resolved
from ncsnx.config.variants import tag_of
from ncsnx.errors import Hint, NcsnxError, quoted
from ncsnx.exchange.published_files import PublishedCheckpoint, PublishedOptimizer
from ncsnx.networks import Network, from_published, meta_network, published_shapes, to_published
from ncsnx.networks.published_names import SIGMAS, same_levels
from ncsnx.quantities import counted
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import TensorFile, Tensors
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.manifest import STATE, FileRecord, Manifest, UnsoundError, verify, write_checkpoint
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import remove_debris
from ncsnx.runs.segments import ImportRecord, append_segment
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.space import Space
from ncsnx.spelling import A_NAME, argument
from ncsnx.training.optimizers import build_optimizer
from ncsnx.training.start import require_same_identity

_SHOWN = 4  # names shown in a list
# Settings that don't change what a step computes; `initial_lr` only records the learning rate before a scheduler.
_IMMATERIAL = frozenset(("params", "foreach", "fused", "capturable", "differentiable", "initial_lr"))
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ImportOutcome = Literal["imported", "already there"]


# What must fit


def require_fit(experiment: Experiment, published: PublishedCheckpoint) -> None:
    """Raises NcsnxError with all differences if the checkpoint doesn't fit the experiment, and for NaN or infinity."""
    if differences := misfit(experiment, published):
        hint = Hint("choose the experiment that trained the file, or change the fields that differ")
        raise NcsnxError(f"{published.path} does not fit {experiment.name}: {'; '.join(differences)}", hint)
    network = meta_network(experiment)
    types = {theirs: network.state_dict()[ours].dtype for ours, theirs in to_published(network).items()}
    for tensors in (published.network, published.ema or {}, *published.optimizer.states):
        for name, tensor in tensors.items():
            wanted = types.get(name, torch.float32)
            if tensor.dtype != wanted and (wanted not in _FLOATS or tensor.dtype not in _FLOATS):
                raise NcsnxError(f"{published.path}: expected {wanted} as {quoted(name)}, found {tensor.dtype}")
            if wanted in _FLOATS and not bool(torch.isfinite(tensor.to(wanted)).all()):
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
    parameters = {name: expected[name] for name in published_parameters(network)}
    if (experiment.ema is None) != (published.ema is None):
        holds = "no averaged weights" if published.ema is None else "averaged weights"
        differences.append(f"ema is {'set' if experiment.ema else 'none'}, and the file holds {holds}")
    elif published.ema is not None:
        differences += _compared(parameters, _shapes(published.ema), "averaged tensor")
    order = [parameters[name] for name in theirs if name in parameters]
    return differences or _optimizer_misfit(experiment.optimizer, order, published.optimizer)


def published_parameters(network: Network) -> dict[str, str]:
    """Our name of each trained tensor, by its published name."""
    names = to_published(network)
    return {names[name]: name for name, _ in network.named_parameters()}


@lru_cache(maxsize=64)
def kept_state(optimizer: Optimizer) -> Mapping[str, bool]:
    """Names of the tensors that an optimizer keeps per parameter → whether they have the parameter's shape.

    Determined by taking a step, so that it holds for optimizers from packages too.
    """
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    built = build_optimizer(optimizer, [parameter])
    built.step()
    state = built.state.get(parameter, {})
    return {key: value.dim() > 0 for key, value in state.items() if isinstance(value, Tensor)}


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
    return [
        f"{counted(len(names), what)} {how} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
        for how, names in lists.items()
        if names
    ]


def _optimizer_misfit(config: Optimizer, shapes: Sequence[tuple[int, ...]], found: PublishedOptimizer) -> list[str]:
    """Differences of the optimizer's state from that of parameters with these shapes, in the file's order."""
    kept = kept_state(config)
    wanted = [{key: shape if is_whole else () for key, is_whole in kept.items()} for shape in shapes]
    states = [_shapes(state) for state in found.states]
    if states == wanted:
        return []
    keys = sorted({quoted(key)[1:-1] for state in states for key in state})
    return [
        f"optimizer is {tag_of(type(config))}, which keeps {', '.join(sorted(kept)) or 'nothing'} for each of "
        f"{counted(len(wanted), 'parameter')}; the file has {', '.join(keys[:_SHOWN]) or 'nothing'} for "
        f"{counted(len(states), 'parameter')}"
    ]


# The conversion


def parts(
    experiment: Experiment, published: PublishedCheckpoint, check_stop: Callable[[], None]
) -> Iterator[tuple[str, Tensors]]:
    """Yields the parts of the checkpoint to write, as (name, tensors).

    The weights in `published` are released on the way, so that they aren't in memory twice. check_stop: called before
    each part; may raise to stop.
    """
    network = meta_network(experiment)
    names = published_parameters(network)
    order = [names[theirs] for theirs in published.network if theirs in names]
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    state = from_published(network, published.network)
    check_stop()
    yield "model", _prepared(state, types)
    published.network.clear()
    for ours in order:
        del state[ours]
    if published.ema is not None:
        check_stop()
        # buffers such as running statistics aren't averaged: they are the network's
        state |= {ours: published.ema.pop(theirs) for theirs, ours in names.items()}
        yield "ema", _prepared(state, types)
        state.clear()
    check_stop()
    yield "optimizer", _prepared(_optimizer(experiment, published, order), {})


def _optimizer(experiment: Experiment, published: PublishedCheckpoint, order: list[str]) -> Tensors:
    """Optimizer state by `key/name`. order: our names of the file's parameters, in the file's order."""
    if not kept_state(experiment.optimizer):
        return {f"{checkpoint.UNTOUCHED}/{name}": torch.zeros(0) for name in order}
    return {
        f"{key}/{name}": value
        for name, state in zip(order, published.optimizer.states, strict=True)
        for key, value in state.items()
    }


def _prepared(tensors: Tensors, types: dict[str, torch.dtype]) -> Tensors:
    """Tensors ready to write: float32 (integers for a counter), sharing no memory."""
    ready: Tensors = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.to(types.get(name, torch.float32)).contiguous()
        place = plain.untyped_storage().data_ptr()
        if place in seen or plain.untyped_storage().nbytes() != plain.nbytes:
            plain = plain.clone()
            place = plain.untyped_storage().data_ptr()
        seen.add(place)
        ready[name] = plain
    return ready


def other_settings(experiment: Experiment, published: PublishedCheckpoint) -> list[str]:
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


# The run


@attrs.frozen
class Imported:
    """Result of importing one file."""

    step: int
    outcome: ImportOutcome
    folder: Path
    """Folder of the checkpoint."""


class ImportTarget:
    """The run to import into. It is created and locked for the first checkpoint that fits.

    An existing run is opened and locked on entering, before gigabytes are read. Raises NcsnxError if it belongs to
    another experiment or another process is writing it, and for unbounded data without a scale.
    """

    def __init__(self, runs_folder: Path, name: str, found: Resolved, note: str = "") -> None:
        self.path = runs_folder / name
        self.run: Run | None = None
        self.kept: list[Difference] = []
        """Values that the existing run keeps, although the experiment now differs."""
        self._found, self._note = found, note
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if not self.path.exists():
            published_space(self._found.experiment)
        else:
            run = open_run(self.path.parent, f"{self.path.parent}/{self.path.name}")
            self.kept = require_same_identity(run, self._found.experiment, None)
            self._hold(run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, published: PublishedCheckpoint, check_stop: Callable[[], None] = lambda: None) -> Imported:
        """Imports a checkpoint that fits the experiment. Raises NcsnxError as `import_checkpoint` does."""
        found = self._found
        if self.run is None:
            self._hold(
                Run.create(
                    self.path.parent,
                    self.path.name,
                    found.experiment,
                    found.origins,
                    found.source,
                    None,
                    published_space(found.experiment),
                )
            )
        assert self.run is not None
        return import_checkpoint(self.run, found.experiment, published, self._note, check_stop)

    def _hold(self, run: Run) -> None:
        self._open.enter_context(writer_lock(run))
        remove_debris(run)
        self.run = run


def published_space(experiment: Experiment) -> Space:
    """The space of a published network, whose images lay around the middle of [0, 1], also where the data is unbounded.

    Raises NcsnxError if the experiment doesn't declare the scale of unbounded data, or a σ_data that it depends on.
    """
    space = Space.of(experiment.data)
    if experiment.uses_sigma_data:
        space.known_sigma_data  # noqa: B018  raises
    center = space.center if space.logit else (space.span / 2 - space.offset) / space.scale
    return attrs.evolve(space, center=center, mean=(center,) * space.shape[0])


def import_checkpoint(
    run: Run,
    experiment: Experiment,
    published: PublishedCheckpoint,
    note: str = "",
    check_stop: Callable[[], None] = lambda: None,
) -> Imported:
    """Adds a checkpoint to the run atomically. The caller holds the lock and has checked that the checkpoint fits.

    The import is recorded in the run's segments, and in the state of every checkpoint trained from it. If the step
    already exists with the same contents, nothing is done. The weights in `published` are released on the way.
    check_stop: called before each part; may raise to stop.

    Raises NcsnxError if the step exists with other contents, if the run was trained (two trainings in one run couldn't
    be distinguished), and if writing fails.
    """
    folder = run.checkpoints / step_name(published.step)
    origin = ImportRecord(
        file=published.path.name,
        sha256=published.sha256,
        bytes=published.size,
        epoch=published.epoch,
        step=published.step,
        note=note,
    )
    images = published.step * experiment.batch_size
    state = {"identity": identity(experiment), "images": images, "imported": attrs.asdict(origin)}

    def files() -> Iterator[tuple[str, bytes | TensorFile]]:
        return checkpoint.contents(published.step, parts(experiment, published, check_stop), state)

    with suppress(UnsoundError):  # missing, or moved aside when the new one is written
        if differing := _differing(verify(folder), files()):
            raise NcsnxError(
                f"{folder} already exists with other contents than {published.path} ({', '.join(differing)}), and "
                "nothing is overwritten",
                Hint("import it into a new run", adds=argument("name", A_NAME)),
            )
        return Imported(published.step, "already there", folder)
    if run.data_fingerprint() is not None:
        raise NcsnxError(
            f"{run.path} was trained here, and {published.path} belongs to another training",
            Hint("import it into a new run", adds=argument("name", f"{run.name}-published")),
        )
    append_segment(run, from_step=published.step, runtime={}, changes={}, note=note, imported=origin)
    return Imported(published.step, "imported", write_checkpoint(run.checkpoints, published.step, files()))


def _differing(there: Manifest, files: Iterable[tuple[str, bytes | TensorFile]]) -> list[str]:
    """Names of files of a sound checkpoint that have other contents."""
    names = []
    for name, content in files:
        record = there.files.get(name)
        if name != STATE and record != FileRecord.of(content):
            names.append(name)
        del content  # freed before the next is made
    return names
