"""A trained score model, loaded from a run or an exported folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment, Precision
from ncsnx.config.image_sizes import (
    ImageSize,
    height_and_width,
    size_as_typed,
    size_in_words,
)
from ncsnx.config.overrides import typed
from ncsnx.config.variants import load_plugins, tag_of
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.networks import Network, empty_network, load_weights, prepare
from ncsnx.notebooks import heading, remark
from ncsnx.quantities import counted
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import ImportedFrom
from ncsnx.runs.exported import MODEL, Export, Weights
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import read_manifest
from ncsnx.runs.names import runs_folder
from ncsnx.runs.selection import Source, check_checkpoint, open_source, reading, wanted_step
from ncsnx.runtime import Runtime
from ncsnx.samplers.building import evaluations, evaluations_in_words, expected_evaluations, state_count
from ncsnx.samplers.state import score_of, tweedie
from ncsnx.sampling.request import shape_at
from ncsnx.space import Space
from ncsnx.spelling import parameter


@attrs.frozen(eq=False, repr=False)
class ScoreModel:
    """A score network with the experiment that trained it."""

    network: Network
    experiment: Experiment
    space: Space
    """The space of the images that the network was trained on."""
    source: Source
    """The run or exported folder that the model was loaded from."""
    run_name: str
    """Name of the run that trained the model."""
    step: int
    """Step of the checkpoint."""
    weights: Weights
    """'ema' for averaged weights; 'raw' for those of the last update, in experiments without EMA."""
    weights_sha256: str
    """sha256 of the file of the weights, in hexadecimal."""
    runtime: Runtime
    imported: ImportedFrom | None = None
    """The published checkpoint that training started from; None if it started from random weights."""
    size: ImageSize | None = None
    """Height and width of the images that are drawn, where they aren't those of the data; see `at_size`."""

    def __repr__(self) -> str:
        experiment = self.experiment
        channels, height, width = self.shape
        trained = "" if self.size is None else f", trained on {size_in_words(experiment.data.shape[1:])} px"
        schedule, parameters = experiment.schedule, sum(tensor.numel() for tensor in self.network.parameters())
        network = f"{tag_of(type(experiment.model))}, {counted(parameters, 'parameter')}"
        return (
            f"ScoreModel of {self.source.where}, step {self.step:,}, "
            f"{weights_in_words(self.weights)} {self.weights_sha256[:8]}\n"
            f"  {network}; {channels}×{height}×{width} images{trained}; "
            f"{schedule.in_words}\n"
            f"  {typed(experiment.sampler)}, {self.evaluations_in_words}; on {self.runtime.device}, "
            f"{counted(self.runtime.threads, 'thread')}{self.precision_in_words}"
        )

    def _repr_html_(self) -> str:
        title, *rest = repr(self).splitlines()
        return heading(title) + "".join(map(remark, rest))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that are drawn: those of the data, or of another size."""
        return shape_at(self.experiment.data, self.size)

    def at_size(self, size: ImageSize | None) -> "ScoreModel":
        """The model for images of another size: one number, or (height, width); None: the size of the data.

        The weights stay the same: a convolutional network takes any size that its stages can halve. Raises UsageError
        for a size that the network can't take, and for a sampler that starts from training images.
        """
        if size is None or shape_at(self.experiment.data, size) == self.experiment.data.shape:
            return attrs.evolve(self, size=None)
        require_size(self.network, size)
        if self.experiment.sampler.start == "data":
            raise UsageError(
                f"{parameter('size')} {size_as_typed(size)}: the sampler starts from training images (data_init), "
                f"which have {size_in_words(self.experiment.data.shape[1:])} pixels",
                Hint("start from noise", adds="sampler.data_init=false"),
            )
        return attrs.evolve(self, size=size)

    @property
    def size_remark(self) -> str | None:
        """A warning that the network was trained on another size; None for the size of the data."""
        if self.size is None:
            return None
        height, width = self.shape[1:]
        data_height, data_width = self.experiment.data.shape[1:]
        return (
            f"the images have {height}×{width} pixels, but the network was trained on {data_height}×{data_width}: look "
            "at them before you rely on them"
        )

    @property
    def precision(self) -> Precision:
        """Number format of the evaluations: the runtime's choice, else the experiment's."""
        return self.runtime.precision_for(self.experiment)

    @property
    def precision_in_words(self) -> str:
        """', in bf16' for a precision other than fp32, else ''."""
        return self.runtime.precision_in_words(self.experiment)

    @property
    def evaluations(self) -> int | None:
        """Network evaluations per image with the experiment's sampler; None for adaptive samplers."""
        return evaluations(self.experiment.sampler, len(self.levels))

    @property
    def expected_evaluations(self) -> int:
        """`evaluations`, or a guess for adaptive samplers."""
        return expected_evaluations(self.experiment.sampler, len(self.levels))

    @property
    def evaluations_in_words(self) -> str:
        """`evaluations` as text."""
        return evaluations_in_words(self.experiment.sampler, len(self.levels))

    @property
    def states(self) -> int:
        """Number of states that the experiment's sampler yields."""
        return state_count(self.experiment.sampler, len(self.levels))

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels that the network was trained at, σ_1 first."""
        return self.network.noise_levels

    def to_network(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → the network's range (see `data.transform`), on the model's device.

        images: in [0, 1] or, for a model of unbounded data, the data's own values.
        """
        return self.space.encode(images.to(self.runtime.device))

    def from_network(self, x: Tensor) -> Tensor:
        """Inverse of `to_network`, on the device of x; clamped to [0, 1] unless the data is unbounded."""
        return self.space.decode(x)

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """s(x, σ), the gradient of the log density of the data with noise of σ; (B, C, H, W), the shape of x.

        x: in the network's range, on the model's device (`to_network`); if it requires a gradient, the score has one.
        sigma: σ > 0 of all images, or (B, 1, 1, 1), in the network's range too: twice that of pixels in [0, 1] where
        data.transform is 'rescaled'. Raises NcsnxError for a size or a type that the network can't take, and for a σ
        that it doesn't accept (NCSN accepts its trained levels only).
        """
        self.network.require_size(*x.shape[-2:])
        dtype = next((weights.dtype for weights in self.network.parameters()), x.dtype)
        if x.dtype != dtype:
            raise NcsnxError(f"images must be {dtype}, as the network's weights are, not {x.dtype}")
        on_device = isinstance(sigma, Tensor) and sigma.device.type != "cpu"  # where a look would wait
        if not on_device:
            levels = torch.as_tensor(sigma, dtype=torch.float64).flatten().tolist()
            if not all(level > 0 for level in levels):
                raise NcsnxError("σ must be above 0: images without noise have no score")
            self.network.require_sigmas(levels)
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            return score_of(self.network.scaled_score, x, sigma)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x + σ² s(x, σ), the mean of the images without noise (Tweedie's formula); arguments as in `score`."""
        return tweedie(x, sigma, self.score(x, sigma))

    def to_safetensors(self) -> bytes:
        """Content of a safetensors file of the weights, as the Hub expects it; equal weights give equal bytes."""
        state = sorted(self.network.state_dict().items())
        # clones, since tied weights share memory, which safetensors refuses
        tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in state}
        # one metadata entry: safetensors would write several in random order
        return safetensors.torch.save(tensors, {"format": "pt"})

    def as_denoiser(self) -> "Denoiser":
        """The model as a denoiser (y, sigma) → x of images as in `to_network`, such as those of deepinv.

        Raises NcsnxError for a model of logits.
        """
        return Denoiser(self.network, self.denoise, self.space)


def require_size(network: Network, size: ImageSize) -> None:
    """Raises UsageError for a size that the network can't take."""
    try:
        network.require_size(*height_and_width(size))
    except NcsnxError as error:
        raise UsageError(f"{parameter('size')} {size_as_typed(size)}: {error.message}", *error.hints) from error


def weights_of(experiment: Experiment) -> tuple[Weights, Literal["model", "ema"]]:
    """The weights that are sampled, and their part of a checkpoint: the averaged weights, or raw ones without EMA."""
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
    precision: Precision | None = None,
) -> ScoreModel:
    """Loads the model of a run's checkpoint or of an exported model: averaged weights, or raw ones without EMA.

    Reads only JSON and safetensors, and checks the hash of each file.

    source: name of a run in the runs folder, path of a run or an exported folder, a Run or an Export; or the address of
    an exported model on the Hugging Face Hub, 'hf://USER/MODEL' or 'hf://USER/MODEL@REVISION', which is downloaded into
    the cache (NCSNX_CACHE) unless its commit is there.
    ckpt: checkpoint of a run: a step (150000, '150k'), 'latest' (the default) or 'best'; None for an exported model.
    runs: the runs folder; default: NCSNX_RUNS, else ./runs.
    precision: number format of the evaluations: 'fp32', 'tf32' (CUDA only) or 'bf16'; default: the runtime's, else the
    experiment's.
    Raises NcsnxError.
    """
    place = source if isinstance(source, Run | Export) else open_source(runs_folder(runs), source)
    load_plugins("ncsnx.runtime")
    runtime = Runtime.choose() if runtime is None else runtime
    if precision is not None:
        runtime = attrs.evolve(runtime, precision=precision)
    return _of_export(place, ckpt, runtime) if isinstance(place, Export) else _of_run(place, ckpt, runtime)


def _of_run(run: Run, ckpt: int | str | None, runtime: Runtime) -> ScoreModel:
    experiment = run.experiment()
    weights, part = weights_of(experiment)
    with reading(run, wanted_step(run, "latest" if ckpt is None else ckpt)) as folder:
        saved = checkpoint.read_checkpoint(folder, [part])
    if saved.state.get("identity") != identity(experiment):
        raise NcsnxError(f"{folder} does not belong to {run.config_path}: it was trained by another experiment")
    return ScoreModel(
        network=_network(
            experiment, run.space(), (saved.model if weights == "raw" else saved.ema) or {}, folder, runtime
        ),
        experiment=experiment,
        space=run.space(),
        source=run,
        run_name=run.name,
        step=saved.step,
        weights=weights,
        weights_sha256=read_manifest(folder).files[f"{part}.safetensors"].sha256,
        runtime=runtime,
        imported=ImportedFrom.of(saved.state),
    )


def _of_export(export: Export, ckpt: int | str | None, runtime: Runtime) -> ScoreModel:
    check_checkpoint(export, ckpt)
    config = export.config()
    path = export.path / MODEL
    try:
        tensors = safetensors.torch.load(export.model_content(config))
    except SafetensorError as error:
        raise NcsnxError(f"{path} is not a safetensors file: {error}") from error
    return ScoreModel(
        network=_network(config.experiment, config.space, tensors, path, runtime),
        experiment=config.experiment,
        space=config.space,
        source=export,
        run_name=config.run,
        step=config.step,
        weights=config.weights,
        weights_sha256=config.model_sha256,
        runtime=runtime,
    )


def _network(
    experiment: Experiment, space: Space, tensors: Mapping[str, Tensor], path: Path, runtime: Runtime
) -> Network:
    """The network with these weights, ready for evaluation. path: that of the weights, for errors.

    Raises NcsnxError if they don't fit, and UsageError if the precision needs another device.
    """
    execution = runtime.for_weights_of(experiment).execution(experiment)
    network = empty_network(experiment, space)
    load_weights(network, tensors, str(path))
    network = network.to(runtime.device).eval().requires_grad_(False)
    return prepare(network, execution)


class Denoiser(nn.Module):
    """D(y, σ) = y + σ² s(y, σ) with gradients if y requires them.

    Images are in [0, 1] or, for a model of unbounded data, in the data's own values; noise is in the same units. Raises
    NcsnxError for a model of logits, where noise of the images isn't Gaussian.
    """

    def __init__(self, network: nn.Module, denoise: Callable[[Tensor, float | Tensor], Tensor], space: Space) -> None:
        """denoise: (x, σ) → the denoised images, in the network's range."""
        super().__init__()
        if space.logit:
            raise NcsnxError("a model of logits (data.transform=logit) is no denoiser of images in [0, 1]")
        self.network, self.denoise = network, denoise
        self.offset, self.scale = space.offset, space.scale

    def forward(self, y: Tensor, sigma: float | Tensor, **ignored: object) -> Tensor:
        """The mean of the clean images, (B, C, H, W), not clamped. sigma: σ of all images, or (B,), one of each.

        Raises NcsnxError for a σ that the network doesn't accept. Other arguments are ignored.
        """
        if isinstance(sigma, Tensor):
            sigma = float(sigma) if sigma.numel() == 1 else sigma.to(y).view(-1, 1, 1, 1)
        denoised = self.denoise((y - self.offset) / self.scale, sigma / self.scale)
        return self.offset + self.scale * denoised
