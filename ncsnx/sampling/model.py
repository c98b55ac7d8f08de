"""A model: a network, the space of its images, its noise levels, a sampler, and the origin of its weights."""

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import safetensors.torch
import torch
from torch import Tensor, nn

from ncsnx.config.codec import identity
from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import Experiment, Precision
from ncsnx.config.image_sizes import ImageSize, height_and_width, is_image_size, size_as_words, size_in_words
from ncsnx.config.overrides import as_words
from ncsnx.config.pretrained import Declared, require_trained
from ncsnx.config.sampler import Heun, Sampler
from ncsnx.config.variants import tag_of
from ncsnx.errors import Hint, NcsnxError, UsageError, printable, quoted, require_between
from ncsnx.exports.exported import Weights
from ncsnx.model_spec import NO_CLASS, ModelSpec, learns_scores
from ncsnx.networks import Cond, Network, NetworkSpec
from ncsnx.networks.contract import NO_COND
from ncsnx.networks.function import FunctionNetwork, Gives, check_function, device_of, space_of
from ncsnx.networks.tiling import in_tiles, is_in_tiles
from ncsnx.notebooks import heading, remark
from ncsnx.quantities import counted
from ncsnx.runs.checkpoint import ImportedFrom
from ncsnx.runs.selection import ModelFolder
from ncsnx.runtime import Runtime
from ncsnx.samplers.building import evaluations, evaluations_in_words, state_count
from ncsnx.samplers.state import score_of, tweedie
from ncsnx.sampling.consistency import TUNED
from ncsnx.sampling.generation import in_turn
from ncsnx.sampling.probability_flow import ProbabilityFlow, Probes, log_normal, require_flow
from ncsnx.sampling.request import shape_at
from ncsnx.space import Space
from ncsnx.spelling import parameter
from ncsnx.work import SILENT, Work

DEFAULT_SAMPLER = Heun(steps=40)
"""The sampler of functions, unless another one is given."""


@attrs.frozen(kw_only=True)
class Checkpoint:
    """The checkpoint of a training, here or elsewhere."""

    declared: Declared
    """The experiment, or where a model comes from that was trained elsewhere."""
    run: str
    """Name of the run that trained it."""
    step: int
    weights: Weights
    """'ema' for averaged weights; 'raw' for those of the last update, in experiments without EMA."""
    weights_sha256: str
    """sha256 of the file of the weights, in hexadecimal."""
    license: str = "unknown"
    """License that the weights, or those that training started from, came with."""
    imported: ImportedFrom | None = None
    """The published checkpoint that training started from; None if it started from random weights."""

    @property
    def in_words(self) -> str:
        """'step 12 (ema)', or 'imported weights' for a model that was trained elsewhere."""
        return f"step {self.step:,} ({self.weights})" if self.weights != "published" else "imported weights"

    @property
    def experiment(self) -> Experiment:
        """The experiment. Raises NcsnxError for a model that was trained elsewhere."""
        return require_trained(self.declared, self.run)

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that determines the weights."""
        return {
            "run": self.run,
            "experiment": self.declared.name,
            "identity": identity(self.declared),
            "step": self.step,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
        }


@attrs.frozen(kw_only=True)
class Origin:
    """The origin of a model, of which it needs nothing to draw."""

    where: str
    """Path of a run or exported model, address of one, or name of a function, for messages."""
    name: str
    """Plain name of its folders."""
    facts: Mapping[str, Any]
    """JSON that determines the model, for protocols."""
    checkpoint: Checkpoint | None = None
    """None for a model that wasn't trained by ncsnx."""
    folder: ModelFolder | None = None
    """The folder that it was loaded from, of a run or an exported model."""
    data: Data | None = None
    """The data set of the training; None if unknown."""
    data_fingerprint: str | None = None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Model:
    """A score model that draws, restores and is measured."""

    network: Network
    space: Space
    """The space of the images that the network was trained on."""
    sampler: Sampler
    origin: Origin
    runtime: Runtime
    size: ImageSize | None = None
    """Height and width of the images that are drawn, where they aren't those of the space; see `at_size`."""
    cond: Callable[[int, Tensor], Cond] | None = None
    """(seed, positions of images (B,) int64) → further inputs of the network."""

    @classmethod
    def of(
        cls,
        function: Callable[..., Tensor],
        *,
        sigma_max: float,
        sigma_min: float = 0.002,
        gives: Gives = "denoised",
        shape: tuple[int, int, int] | None = None,
        ends: tuple[float, float] | None = None,
        space: Space | None = None,
        data: Data | None = None,
        sampler: Sampler = DEFAULT_SAMPLER,
        cond: Callable[[int, Tensor], Cond] | None = None,
        name: str | None = None,
        identity: str | None = None,
        device: str | None = None,
    ) -> "Model":
        """A model of any function (x, σ) of noisy images x = image + σ · noise, (B, C, H, W), and σ > 0, (B,).

        gives: whether it returns the mean of the images without noise (D), the mean of the noise ((x − D)/σ), or the
        score ((D − x)/σ²), of the shape of x. sigma_max, sigma_min: the range of σ that it was made for, in units of x.
        shape: (C, H, W) of the images; in place of it a space, or the data set that measurements compare with. ends: x
        of black and white, with shape; None: values are x itself, without limits. cond: keyword arguments of the
        function for images at positions, such as labels: (seed, (B,)) → tensors (B, …). name: by default the
        function's. identity: text that stands for what the function computes, so that a sampling resumes from images of
        an earlier call with the same text and, for a module, the same weights; None: it never does. device: by default
        that of a module's weights, else the CPU.

        A module stays as it is: put it in evaluation mode before. A likelihood and rules such as 'dps' need its
        gradients by x. Raises UsageError for contradictions.
        """
        check_function(function, gives, sigma_max, sigma_min, sampler)
        space = space_of(shape, ends, space, data)
        name = printable(name or str(getattr(function, "__name__", type(function).__name__)))
        facts = {"model": name, "gives": gives, "sigma_max": sigma_max, "sigma_min": sigma_min}
        facts |= {"space": [space.offset, space.scale, *space.shape]}
        # other calls may give other functions of the same name, also with the same weights
        facts |= {"call": secrets.token_hex(8)} if identity is None else {"identity": identity}
        spec = NetworkSpec(space=space, sigmas=(float(sigma_max), float(sigma_min)))
        plain = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")[:60]
        return cls(
            network=FunctionNetwork(function, gives, name, spec),
            space=space,
            sampler=sampler,
            origin=Origin(where=name, name=plain or "function", facts=facts, data=data),
            runtime=Runtime.choose(device=device or str(device_of(function))),
            cond=cond,
        )

    def __repr__(self) -> str:
        channels, height, width = self.shape
        trained = "" if self.size is None else f", trained on {size_in_words(self.space.shape[1:])} px"
        schedule = f"σ from {self.levels[0]:g} to {self.levels[-1]:g}"
        network, which = type(self.network).__name__, ""
        if (saved := self.origin.checkpoint) is not None:
            which = f", step {saved.step:,}, {weights_in_words(saved.weights)} {saved.weights_sha256[:8]}"
            network, schedule = str(tag_of(type(saved.declared.model))), saved.declared.schedule.in_words
        parameters = counted(sum(tensor.numel() for tensor in self.network.parameters()), "parameter")
        return (
            f"Model of {self.origin.where}{which}\n"
            f"  {network}, {parameters}; {channels}×{height}×{width} images{trained}; {schedule}\n"
            f"  {as_words(self.sampler)}, {self.evaluations_in_words}; on {self.runtime.device}, "
            f"{counted(self.runtime.threads, 'thread')}{self.precision_in_words}"
        )

    def _repr_html_(self) -> str:
        title, *rest = repr(self).splitlines()
        return heading(title) + "".join(map(remark, rest))

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the weights come from. Raises NcsnxError for a model that wasn't trained by ncsnx."""
        if self.origin.checkpoint is None:
            raise NcsnxError(f"{self.origin.where} was not trained by ncsnx, so it has no experiment and no checkpoint")
        return self.origin.checkpoint

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that determines the network, for protocols: of a module that was not trained here, with its weights."""
        known = self.origin.checkpoint is not None or not self.network.state_dict()
        mine = {} if known else {"weights_sha256": hashlib.sha256(self.to_safetensors()).hexdigest()}
        return {**self.origin.facts, **mine}

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels that the network was trained at, σ_1 first; of a function the ends of its range."""
        return self.network.noise_levels

    def spec(self) -> ModelSpec:
        """The model without its weights."""
        saved = self.origin.checkpoint
        return ModelSpec(
            space=self.space,
            levels=self.levels,
            model=None if saved is None else saved.declared.model,
            sampler=self.sampler,
            data=self.origin.data,
            precision=self.precision,
            has_cond=self.cond is not None,
            learns_scores=saved is None or learns_scores(saved.declared),
        )

    def fast(self, work: Work = SILENT) -> Sampler:
        """The sampler that `ncsnx compare` recommends. Raises UsageError for a model that isn't of a run."""
        if self.origin.folder is None:
            raise UsageError(
                f"sampler=fast needs a run, in which `ncsnx compare` measures samplers, and {self.origin.where} is "
                "none; give a sampler such as ncsnx.config.Heun()"
            )
        return self.origin.folder.fast(work)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that are drawn: those of the space, or of another size."""
        return shape_at(self.space.shape, self.size)

    def at_size(self, size: ImageSize | None) -> "Model":
        """The model for images of another size: one number, or (height, width); None: the size of the space.

        The weights stay the same: a convolutional network takes any size that its stages can halve. Raises UsageError
        for a size that the network can't take, and for a sampler that starts from training images.
        """
        if size is not None and not is_image_size(size):
            raise UsageError(f"{parameter('size')} must be one number or (height, width), not {quoted(size)}")
        if size is None or shape_at(self.space.shape, size) == self.space.shape:
            return attrs.evolve(self, size=None)
        require_size(self.network, size)
        if self.sampler.start == "data":
            raise UsageError(
                f"{parameter('size')} {size_as_words(size)}: the sampler starts from training images (data_init), "
                f"which have {size_in_words(self.space.shape[1:])} pixels",
                Hint("start from noise", adds="sampler.data_init=false"),
            )
        return attrs.evolve(self, size=size)

    def in_tiles(self, side: int | None) -> "Model":
        """The model for pictures of any size, evaluated in tiles of `side` pixels; None: it stays as it is.

        Raises NcsnxError for a network that sees all of an image at each of its pixels.
        """
        if side is None:
            return self
        return attrs.evolve(self, network=in_tiles(self.network, self.space, side))

    @property
    def tile(self) -> int | None:
        """Side of the tiles that pictures of its size are evaluated in; None: they are evaluated whole."""
        return self.network.tile_of(*self.shape[1:])

    @property
    def size_remark(self) -> str | None:
        """A warning that the network was trained on another size; None for that size, and for pictures in tiles."""
        if self.size is None or is_in_tiles(self.network):
            return None
        (height, width), (high, wide) = self.shape[1:], self.space.shape[1:]
        return (
            f"the images have {height}×{width} pixels, but the network was trained on {high}×{wide}: "
            "look at them before you rely on them"
        )

    @property
    def precision(self) -> Precision:
        """Number format of the evaluations."""
        return self.network.precision

    @property
    def precision_in_words(self) -> str:
        """', in bf16' for a precision other than fp32, else ''."""
        return "" if self.precision == "fp32" else f", in {self.precision}"

    @property
    def evaluations(self) -> int | None:
        """Network evaluations per image; None for adaptive samplers."""
        return evaluations(self.sampler, len(self.levels), self.levels)

    @property
    def evaluations_in_words(self) -> str:
        """`evaluations` as text."""
        return evaluations_in_words(self.sampler, len(self.levels), self.levels)

    @property
    def states(self) -> int:
        """Number of states that the sampler yields."""
        return state_count(self.sampler, len(self.levels))

    def to_network(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → the network's range (see `data.transform`), on the model's device.

        images: in [0, 1] or, for a model of unbounded data, the data's own values.
        """
        return self.space.encode(images.to(self.runtime.device))

    def from_network(self, x: Tensor) -> Tensor:
        """Inverse of `to_network`, on the device of x; clamped to [0, 1] unless the data is unbounded."""
        return self.space.decode(x)

    def score(self, x: Tensor, sigma: float | Tensor, cond: Cond = NO_COND) -> Tensor:
        """s(x, σ), the gradient of the log density of the data with noise of σ; (B, C, H, W), the shape of x.

        Of a network that was tuned for consistency, it is (D − x)/σ² of what `denoise` gives, and no gradient.
        x: in the network's range, on the model's device (`to_network`); if it requires a gradient, the score has one.
        sigma: σ > 0 of all images, or of each, (B,) or (B, 1, 1, 1), in the network's range too: twice that of pixels
        in [0, 1] where data.transform is 'rescaled'. cond: further inputs of the network, such as 'classes', (B,)
        int64. Raises NcsnxError for a size or a type that the network can't take, for a σ that it doesn't accept (NCSN
        accepts its trained levels only), and for classes that it doesn't know.
        """
        self.network.require_size(*x.shape[-2:])
        if self.network.classes:
            self._require_classes(len(x), cond.get("classes"))
        if x.dtype != self.network.dtype:
            raise NcsnxError(f"images must be {self.network.dtype}, as the network's weights are, not {x.dtype}")
        on_device = isinstance(sigma, Tensor) and sigma.device.type != "cpu"  # where a look would wait
        if not on_device:
            levels = torch.as_tensor(sigma, dtype=torch.float64).flatten().tolist()
            if not all(level > 0 for level in levels):
                raise NcsnxError("σ must be above 0: images without noise have no score")
            self.network.require_sigmas(levels)
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            return score_of(self.network.scaled_score, x, sigma, cond)

    def _require_classes(self, count: int, classes: Tensor | None) -> None:
        """Raises NcsnxError unless each of `count` images has a class that the network was trained on.

        No class is one of them where `class_dropout` withheld some.
        """
        model = self.spec().model
        lowest = 0 if model is not None and model.class_dropout == 0 else NO_CLASS
        highest = self.network.classes - 1
        if classes is None and lowest == NO_CLASS:
            return
        known = f"each from 0 to {highest:,}" + (f", or {NO_CLASS} for no class" if lowest == NO_CLASS else "")
        expected = f'cond={{"classes": …}} must be the class of each image, ({count},) int64, {known}'
        if classes is None:
            raise NcsnxError(f"{expected}, since this network was trained with model.class_dropout=0")
        if tuple(classes.shape) != (count,) or classes.dtype != torch.int64:
            raise NcsnxError(f"{expected}, not {tuple(classes.shape)} {classes.dtype}")
        if bool((odd := (classes < lowest) | (classes > highest)).any()):
            raise NcsnxError(f"{expected}, not {int(classes[odd][0]):,}")

    def denoise(self, x: Tensor, sigma: float | Tensor, cond: Cond = NO_COND) -> Tensor:
        """x + σ² s(x, σ), the mean of the images without noise (Tweedie's formula); arguments as in `score`.

        Of a network that was tuned for consistency, it is the end of the probability flow from x, a sample.
        """
        return tweedie(x, sigma, self.score(x, sigma, cond))

    def log_density(
        self, values: Tensor, *, probes: int | None = None, tolerance: float = 1e-4, seed: int = 0
    ) -> Tensor:
        """ln p of images (B, C, H, W) of values under the probability-flow ODE, (B,) float64, in nats.

        It is the density at σ_min, of noisy images if the model learned from such, with N(center, σ_max²) as that at
        σ_max. probes: random vectors for the divergence; None for its exact value, by a backward pass for each
        dimension. tolerance: as in `ProbabilityFlow`. Image i has the further inputs of position i. Raises UsageError
        for other images, and for a network without a flow, such as NCSN; DivergedError if the solver fails.
        """
        name, any_sigma = type(self.network).__name__, self.network.any_sigma
        require_flow(name, self.precision, tolerance, any_sigma=any_sigma, learns_scores=self.spec().learns_scores)
        if values.dim() != 4 or tuple(values.shape[1:]) != self.space.shape:
            raise UsageError(f"expected images (B, {', '.join(map(str, self.space.shape))}), found {(*values.shape,)}")
        if probes is not None:
            require_between("probes", probes, 1, 10_000)
        values, places = values.cpu().double(), torch.arange(len(values), device=self.runtime.device)
        ends, cond = (self.levels[-1], self.levels[0]), self.inputs(seed, places)
        flow = ProbabilityFlow(self.network.scaled_score, *ends, tolerance=tolerance, cond=cond)
        end = flow.to_prior(self.space.encode(values), Probes.at(places, self.space.shape, probes, seed))
        prior = log_normal(end.x, self.space.center, flow.sigma_max)
        return prior + end.log_volume + self.space.log_slope(values)

    @property
    def has_inputs(self) -> bool:
        """Whether the network has further inputs, which are an image's own."""
        return self.cond is not None or self.network.classes > 0

    def inputs(self, seed: int, positions: Tensor) -> Cond:
        """Further inputs of the network for images at positions, (B,) int64: those of the function, and the class that
        the sampler draws there. Raises UsageError for classes that the network doesn't know, NcsnxError for others."""
        if classes := self.spec().classes:
            return self.network.class_cond(in_turn(classes, positions))
        found: Any = NO_COND if self.cond is None else self.cond(seed, positions)
        for name, one in found.items() if isinstance(found, Mapping) else [("cond", found)]:
            if not isinstance(one, Tensor) or one.dim() == 0 or len(one) != len(positions):
                raise NcsnxError(
                    f"cond must give a dictionary of tensors with a row for each of {len(positions)} positions, and "
                    f"{name} is {quoted(one)}"
                )
        return dict(found)

    def to_safetensors(self, *, half: bool = False) -> bytes:
        """Content of a safetensors file of the weights, as the Hub expects it; equal weights give equal bytes.

        half: round float32 parameters to float16. Raises NcsnxError for one that is too large for it.
        """
        state = sorted(self.network.state_dict().items())
        # clones, since tied weights share memory, which safetensors refuses
        tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in state}
        if half:
            parameters = dict(self.network.named_parameters())
            rounded = {name: one.half() for name, one in tensors.items() if name in parameters}
            if not all(bool(one.isfinite().all()) for one in rounded.values()):
                raise NcsnxError("a weight is too large for float16; export without rounding")
            tensors |= rounded
        # one metadata entry: safetensors would write several in random order
        return safetensors.torch.save(tensors, {"format": "pt"})

    def as_denoiser(self) -> "Denoiser":
        """The model as a denoiser (y, sigma) → x of images as in `to_network`, such as those of deepinv.

        Raises NcsnxError for a model of logits, one with further inputs, and one that was tuned for consistency.
        """
        if not self.spec().learns_scores:
            raise NcsnxError(f"a denoiser gives means, which need a score network; {TUNED}")
        if self.has_inputs:
            raise NcsnxError(f"{self.origin.where} needs further inputs, which a denoiser of images alone has not")
        return Denoiser(self.network, self.denoise, self.space)


def require_size(network: Network, size: ImageSize) -> None:
    """Raises UsageError for a size that the network can't take."""
    try:
        network.require_size(*height_and_width(size))
    except NcsnxError as error:
        raise UsageError(f"{parameter('size')} {size_as_words(size)}: {error.message}", *error.hints) from error


def weights_in_words(weights: Weights) -> str:
    """'EMA weights', 'raw weights' or 'imported weights'."""
    names = {"ema": "EMA", "raw": "raw", "published": "imported"}
    return f"{names[weights]} weights"


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
