"""Imports published checkpoints into a run: what must fit, the conversion of their tensors, and the run.

The weights stay the same. The optimizer's state in the file is not taken over: training that resumes from an imported
checkpoint begins with a fresh optimizer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import attrs
import torch
from torch import Tensor

from ncsnx.config import Experiment
from ncsnx.config.codec import Difference, identity
from ncsnx.config.discovery import Resolved
from ncsnx.errors import Hint, NcsnxError, quoted
from ncsnx.exchange.published_files import PublishedCheckpoint
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
from ncsnx.training.start import require_same_identity

_SHOWN = 4  # names shown in a list
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


# What must fit


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
    return [
        f"{counted(len(names), what)} {how} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
        for how, names in lists.items()
        if names
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
    yield "optimizer", {f"{checkpoint.UNTOUCHED}/{name}": torch.zeros(0) for name in names.values()}


# The run


@attrs.frozen
class Imported:
    """Result of importing one file."""

    outcome: Literal["imported", "already there"]
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
        return Imported("already there", folder)
    if run.data_fingerprint() is not None:
        raise NcsnxError(
            f"{run.path} was trained here, and {published.path} belongs to another training",
            Hint("import it into a new run", adds=argument("name", f"{run.name}-published")),
        )
    append_segment(run, from_step=published.step, runtime={}, changes={}, note=note, imported=origin)
    return Imported("imported", write_checkpoint(run.checkpoints, published.step, files()))


def _differing(there: Manifest, files: Iterable[tuple[str, bytes | TensorFile]]) -> list[str]:
    """Names of files of a sound checkpoint that have other contents."""
    names = []
    for name, content in files:
        record = there.files.get(name)
        if name != STATE and record != FileRecord.of(content):
            names.append(name)
        del content  # freed before the next is made
    return names
