"""A trained network, loaded from a run: what samplers and scores are given."""

from pathlib import Path
from typing import Literal

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment
from ncsnx.config.variants import load_plugins
from ncsnx.errors import NcsnxError
from ncsnx.networks import ScoreNetwork, empty_network, prepare
from ncsnx.runs import checkpoint
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.manifest import read_manifest, resolve_checkpoint
from ncsnx.runs.names import runs_folder
from ncsnx.runtime import Runtime
from ncsnx.sampling.build import evaluations

Weights = Literal["ema", "raw"]


@attrs.frozen(eq=False)
class ScoreModel:
    """A score network with the experiment that trained it."""

    network: ScoreNetwork
    experiment: Experiment
    run: Run
    step: int
    """Of the checkpoint."""
    weights: Weights
    """'ema': the averaged weights; 'raw': those of the last update, where the experiment averages none."""
    weights_sha256: str
    """Of the file that they came from, in hexadecimal."""
    runtime: Runtime

    @property
    def evaluations(self) -> int:
        """Network evaluations that an image takes with the experiment's sampler."""
        return evaluations(self.experiment.sampler, self.experiment.schedule.levels)

    @torch.no_grad()
    def score(self, x: Tensor, sigma: float) -> Tensor:
        """s(x, σ), the gradient of the log density of the data blurred by σ; (B, C, H, W), of the shape of x.

        x is in the network's range (the data's transform; [0, 1] where there is none) and on the model's device. Raises
        NcsnxError for a σ that the network can't take (NCSN: other than its trained levels).
        """
        return self.network.score(x, sigma)


def weights_of(experiment: Experiment) -> tuple[Weights, Literal["model", "ema"]]:
    """Which weights are sampled, and the part of a checkpoint that holds them: the averaged ones where there are."""
    return ("raw", "model") if experiment.ema is None else ("ema", "ema")


def load(
    run: Run | Path | str, ckpt: int | str = "latest", *, runs: Path | str | None = None, runtime: Runtime | None = None
) -> ScoreModel:
    """The model of a run's checkpoint: averaged weights, or the raw ones of an experiment without EMA.

    run: its name in the runs folder, its path, or a Run. ckpt: a step (150000, '150k'), 'latest' or 'best'. runs: the
    runs folder, by default NCSNX_RUNS, else ./runs. Only JSON and safetensors are read, and each file's hash is
    checked. Raises NcsnxError.
    """
    place = run if isinstance(run, Run) else open_run(runs_folder(runs), run)
    load_plugins("ncsnx.runtime")
    runtime = Runtime.choose() if runtime is None else runtime
    experiment = place.experiment()
    folder = resolve_checkpoint(place, ckpt)
    weights, part = weights_of(experiment)
    saved = checkpoint.load(folder, [part])
    if saved.state.get("identity") != identity(experiment):
        raise NcsnxError(f"{folder} doesn't belong to {place.config_path}: it was trained by another experiment")
    tensors = saved.model if weights == "raw" else saved.ema
    network = empty_network(experiment)
    try:
        network.load_state_dict(tensors or {})
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise NcsnxError(f"{folder} doesn't fit the network of {place.config_path}: {first:.300}") from error
    network = network.to(runtime.device).eval().requires_grad_(False)
    return ScoreModel(
        network=prepare(network, runtime.execution(experiment)),
        experiment=experiment,
        run=place,
        step=saved.step,
        weights=weights,
        weights_sha256=read_manifest(folder).files[f"{part}.safetensors"].sha256,
        runtime=runtime,
    )
