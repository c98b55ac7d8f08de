"""A trained network, loaded from a run or from an exported folder: what samplers and scores are given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ncsnx.config.codec import identity
from ncsnx.config.command_words import typed
from ncsnx.config.experiment import Experiment
from ncsnx.config.variants import load_plugins, tag_of
from ncsnx.data import from_unit
from ncsnx.errors import NcsnxError
from ncsnx.networks import ScoreFunction, empty_network, load_weights, prepare
from ncsnx.quantities import counted
from ncsnx.runs.checkpoints import checkpoint
from ncsnx.runs.checkpoints.checkpoint import ImportedFrom
from ncsnx.runs.checkpoints.manifest import read_manifest, resolve_checkpoint
from ncsnx.runs.checkpoints.weight_sizes import weight_sizes
from ncsnx.runs.exported import MODEL, Export, Weights
from ncsnx.runs.folder import Run
from ncsnx.runs.model_source import Source, check_checkpoint, open_source
from ncsnx.runs.names import runs_folder
from ncsnx.runtime import Runtime
from ncsnx.samplers.building import evaluations, evaluations_in_words, expected_evaluations, state_count


@attrs.frozen(eq=False, kw_only=True)
class SavedWeights:
    """The weights of a checkpoint as they are kept, and what they belong to."""

    source: Source
    experiment: Experiment
    run_name: str
    """Of the run that trained them."""
    step: int
    """Of the checkpoint."""
    weights: Weights
    sha256: str
    """Of the file that they came from, in hexadecimal."""
    tensors: Mapping[str, Tensor]
    """By their names in the network; on the CPU."""
    where: Path
    """The place that they were read from, for complaints."""
    imported: ImportedFrom | None = None
    """What the training began with, where that was a published checkpoint."""

    def to_safetensors(self) -> bytes:
        """A safetensors file of them, as the Hub expects one; equal weights give equal bytes."""
        # one metadata entry: safetensors would write several in random order
        return safetensors.torch.save(dict(sorted(self.tensors.items())), {"format": "pt"})


@attrs.frozen(eq=False, repr=False)
class ScoreModel:
    """A score network with the experiment that trained it."""

    network: ScoreFunction
    experiment: Experiment
    source: Source
    """The run or the exported folder that it was loaded from."""
    run_name: str
    """Of the run that trained it."""
    step: int
    """Of the checkpoint."""
    weights: Weights
    """'ema': the averaged weights; 'raw': those of the last update, where the experiment averages none."""
    weights_sha256: str
    """Of the file that they came from, in hexadecimal."""
    runtime: Runtime

    def __repr__(self) -> str:
        experiment = self.experiment
        channels, height, width = experiment.data.shape
        schedule, parameters = experiment.schedule, sum(tensor.numel() for tensor in self.network.parameters())
        network = f"{tag_of(type(experiment.model))}, {counted(parameters, 'parameter')}"
        return (
            f"ScoreModel of {self.source.path}, step {self.step:,}, "
            f"{weights_in_words(self.weights)} {self.weights_sha256[:8]}\n"
            f"  {network}; {channels}×{height}×{width} images; "
            f"σ {schedule.sigma_max:g} → {schedule.sigma_min:g} in {counted(schedule.levels, 'level')}\n"
            f"  {typed(experiment.sampler)}, {self.evaluations_in_words}; on {self.runtime.device}, "
            f"{counted(self.runtime.threads, 'thread')}"
        )

    @property
    def evaluations(self) -> int | None:
        """Network evaluations that an image takes with the experiment's sampler; None where only sampling shows it."""
        return evaluations(self.experiment.sampler, self.experiment.schedule.levels)

    @property
    def expected_evaluations(self) -> int:
        """`evaluations`, or a guess."""
        return expected_evaluations(self.experiment.sampler, self.experiment.schedule.levels)

    @property
    def evaluations_in_words(self) -> str:
        """`evaluations`, for people."""
        return evaluations_in_words(self.experiment.sampler, self.experiment.schedule.levels)

    @property
    def states(self) -> int:
        """States that the experiment's sampler gives."""
        return state_count(self.experiment.sampler, self.experiment.schedule.levels)

    def to_network(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] in the network's range, as `data.transform` says, on the model's device."""
        return from_unit(images.to(self.runtime.device), self.experiment.data)

    @torch.no_grad()
    def score(self, x: Tensor, sigma: float) -> Tensor:
        """s(x, σ), the gradient of the log density of the data blurred by σ; (B, C, H, W), of the shape of x.

        x is in the network's range and on the model's device (`to_network`). Raises NcsnxError for a σ that the network
        can't take (NCSN: other than its trained levels).
        """
        return self.network.score(x, sigma)


def weights_of(experiment: Experiment) -> tuple[Weights, Literal["model", "ema"]]:
    """Which weights are sampled, and the part of a checkpoint that holds them: the averaged ones where there are."""
    return ("raw", "model") if experiment.ema is None else ("ema", "ema")


def weights_in_words(weights: Weights) -> str:
    """'EMA weights' or 'raw weights'."""
    return f"{'EMA' if weights == 'ema' else 'raw'} weights"


def load(
    source: Source | Path | str,
    ckpt: int | str | None = None,
    *,
    runs: Path | str | None = None,
    runtime: Runtime | None = None,
) -> ScoreModel:
    """The model of a run's checkpoint, or an exported one: averaged weights, raw ones of an experiment without EMA.

    source: a run's name in the runs folder, the path of a run or of an exported folder, a Run or an Export. ckpt: of a
    run, a step (150000, '150k'), 'latest' (the default) or 'best'; an exported folder holds one, and takes none. runs:
    the runs folder, by default NCSNX_RUNS, else ./runs. Only JSON and safetensors are read, and each file's hash is
    checked. Raises NcsnxError.
    """
    place = source if isinstance(source, Run | Export) else open_source(runs_folder(runs), source)
    return build_model(read_weights(place, ckpt), runtime)


def read_weights(source: Source, ckpt: int | str | None = None) -> SavedWeights:
    """The weights that `load` puts into a network, checked by hash. Raises UsageError, NcsnxError."""
    return _of_export(source, ckpt) if isinstance(source, Export) else _of_run(source, ckpt)


def build_model(saved: SavedWeights, runtime: Runtime | None = None) -> ScoreModel:
    """The network with these weights, ready for evaluations. Raises NcsnxError where they don't fit it."""
    load_plugins("ncsnx.runtime")
    runtime = Runtime.choose() if runtime is None else runtime
    network = empty_network(saved.experiment)
    load_weights(network, saved.tensors, str(saved.where))
    network = network.to(runtime.device).eval().requires_grad_(False)
    return ScoreModel(
        network=prepare(network, runtime.execution(saved.experiment)),
        experiment=saved.experiment,
        source=saved.source,
        run_name=saved.run_name,
        step=saved.step,
        weights=saved.weights,
        weights_sha256=saved.sha256,
        runtime=runtime,
    )


def _of_run(run: Run, ckpt: int | str | None) -> SavedWeights:
    experiment = run.experiment()
    folder = resolve_checkpoint(run, "latest" if ckpt is None else ckpt)
    weights, part = weights_of(experiment)
    saved = checkpoint.read_checkpoint(folder, [part], weight_sizes(experiment))
    if saved.state.get("identity") != identity(experiment):
        raise NcsnxError(f"{folder} does not belong to {run.config_path}: it was trained by another experiment")
    return SavedWeights(
        source=run,
        experiment=experiment,
        run_name=run.name,
        step=saved.step,
        weights=weights,
        sha256=read_manifest(folder).files[f"{part}.safetensors"].sha256,
        tensors=(saved.model if weights == "raw" else saved.ema) or {},
        where=folder,
        imported=ImportedFrom.of(saved.state),
    )


def _of_export(export: Export, ckpt: int | str | None) -> SavedWeights:
    check_checkpoint(export, ckpt)
    config = export.config()
    path = export.path / MODEL
    try:
        tensors = safetensors.torch.load(export.model_content(config))
    except SafetensorError as error:
        raise NcsnxError(f"{path} is not a safetensors file: {error}") from error
    return SavedWeights(
        source=export,
        experiment=config.experiment,
        run_name=config.run,
        step=config.step,
        weights=config.weights,
        sha256=config.model_sha256,
        tensors=tensors,
        where=path,
    )
