"""The interface of networks: scores of noisy images, at the trained noise levels or at any σ.

A network is a subclass of `ScoreFunction`:

    class Plain(ScoreFunction):
        def __init__(self, model, spec):
            super().__init__(spec)
            self.net = nn.Sequential(nn.Conv2d(spec.channels, model.width, 3, padding=1), nn.ELU(), ...)

        def forward(self, x, levels):
            return self.net(self.centered(x))

This example has the score s(x, σ) = f(x)/σ (technique 3 of Song & Ermon 2020, arXiv 2006.09011, section 3.3) and takes
any σ. A network that is conditional on σ derives from `SigmaConditional`; one that is conditional on the level sets
`any_sigma` to False and uses `levels`.

The constructor runs twice: on torch's meta device, where tensors have only shapes, and on the CPU, where its random
draws come from the counter-based generator (see `ncsnx.networks.initialization`).
"""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import attrs
import torch
from torch import Tensor, nn

from ncsnx.config import Model
from ncsnx.config.experiment import Precision
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.normalization import at_least_float32
from ncsnx.quantities import counted
from ncsnx.registering import unregistered
from ncsnx.space import Space
from ncsnx.tensorfloat import tf32_products

_SIGMA_TOLERANCE = 1e-6  # relative: a level that went through float32 is still that level


@attrs.frozen(kw_only=True)
class NetworkSpec:
    """Properties of the data and the noise that a network is built for."""

    space: Space
    """The space of the images."""
    sigmas: tuple[float, ...]
    """Noise levels, descending."""
    labels: int = 0
    """Number of labels of augmented training images; 0 without augmentation."""
    seed: int = 0
    """Seed of the training, for what the network draws in it."""

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.space.shape[0]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.space.shape[1]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.space.shape[2]


class ScoreFunction(nn.Module, ABC):
    """s(x, σ), the score of the data perturbed by noise of standard deviation σ; x is (B, C, H, W).

    Public attributes: channels, height, width, noise_levels (descending).
    """

    any_sigma: ClassVar[bool] = True
    """Whether it takes any σ > 0, not only the trained levels."""

    sigmas: Tensor
    """Noise levels, (L,) float32, descending. Not in the state, since they follow from the configuration."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.channels, self.height, self.width = spec.space.shape
        self.noise_levels = spec.sigmas
        self.center, self.gain = spec.space.center, spec.space.gain
        self.memory_format: torch.memory_format = torch.contiguous_format
        self.precision: Precision = "fp32"
        self.register_buffer("sigmas", torch.tensor(spec.sigmas), persistent=False)

    def training_inputs(self, positions: Tensor, labels: Tensor | None) -> tuple[Tensor | None, ...]:
        """Further arguments of `forward` in training, such as masks of dropout; by default none.

        positions: those of the images in the training stream, (B,) int64, by which they are drawn. labels: of their
        augmentation, (B, spec.labels) float32.
        """
        if labels is not None:
            raise TypeError(f"{type(self).__name__} takes labels, so it has to override training_inputs")
        return ()

    @abstractmethod
    def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
        """The network itself: (B, C, H, W) float32 → the same shape and type. In training it also gets
        `training_inputs`.

        levels: (B,) int64, 0 is the largest σ; None for a network that takes any σ, and σ itself, (B,) float32, for a
        `SigmaConditional`. The result is σ · s(x, σ), or s(x, σ) of a network that is conditional on the level.
        """

    def scaled_score(self, x: Tensor, sigma: Tensor, *training_inputs: Tensor | None) -> Tensor:
        """σ · s(x, σ) at the σ of each image: x (B, C, H, W) float32, sigma (B,) float32.

        A network that is conditional on the level takes the one nearest to σ. training_inputs: in training.
        """
        if self.any_sigma:
            return self.output(x, None, *training_inputs)
        levels = (self.sigmas.log() - sigma.log()[:, None]).abs().argmin(dim=1)
        return self.output(x, levels, *training_inputs) * sigma.view(-1, 1, 1, 1)

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """s(x, σ): (B, C, H, W) float32.

        sigma: σ of all images, also as a tensor on the device of x, or (B, 1, 1, 1), one of each image. Raises
        NcsnxError if the network is conditional and σ isn't a trained level (to 1e-6).
        """
        if self.any_sigma:
            return self.output(x, None) / sigma
        if isinstance(sigma, Tensor):
            levels = [self._level(one) for one in sigma.expand(len(x), 1, 1, 1).flatten().tolist()]
            return self.output(x, torch.tensor(levels, device=x.device))
        return self.output(x, torch.full((len(x),), self._level(sigma), device=x.device))

    def require_size(self, height: int, width: int) -> None:
        """Raises NcsnxError if the network can't take images of this size.

        By default it takes only the size that it was built for. A fully convolutional network may take others.
        """
        if (height, width) != (self.height, self.width):
            raise NcsnxError(
                f"{type(self).__name__} takes only images of {self.height}×{self.width} pixels, for which it was "
                f"built, not {height}×{width}"
            )

    def centered(self, x: Tensor) -> Tensor:
        """The input of the first layer, from −1 (black) to 1 (white): 2x − 1 for images in [0, 1], x for logits."""
        return x if (self.gain, self.center) == (1, 0) else self.gain * x - self.gain * self.center

    def lower_precision(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """Context of the computations that may run in bfloat16 if requested; by default all of `forward`."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def products(self) -> contextlib.AbstractContextManager[object]:
        """Context of the forward and the backward pass: TF32 if requested. `output` enters it, callers of `backward`
        have to."""
        return tf32_products() if self.precision == "tf32" else contextlib.nullcontext()

    def output(self, x: Tensor, levels: Tensor | None, *training_inputs: Tensor | None) -> Tensor:
        """The result of `forward` in float32 or wider; compiled if the network was prepared so."""
        x = x.to(memory_format=self.memory_format)
        with self.products(), self.lower_precision(x.device):
            out: Tensor = self(x, levels, *training_inputs)
        return at_least_float32(out).contiguous()

    def _level(self, sigma: float) -> int:
        for level, known in enumerate(self.noise_levels):
            if math.isclose(sigma, known, rel_tol=_SIGMA_TOLERANCE):
                return level
        raise NcsnxError(
            f"{type(self).__name__} takes only the {counted(len(self.noise_levels), 'level')} that it was trained at, "
            f"from {self.noise_levels[0]:g} to {self.noise_levels[-1]:g}; σ = {sigma:g} is not one of them",
            Hint("use these levels", adds="sampler=ald"),
            Hint("or use sampler.grid=levels with any sampler but ode, without churn"),
            Hint("or train a model that takes any σ, such as ncsnv2 or unet"),
        )


class SigmaConditional(ScoreFunction):
    """A score function whose `forward` gets σ, (B,) float32, as its second argument and returns σ · s(x, σ)."""

    def scaled_score(self, x: Tensor, sigma: Tensor, *training_inputs: Tensor | None) -> Tensor:
        """σ · s(x, σ) at the σ of each image, as for any score function."""
        return self.output(x, sigma, *training_inputs)

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """s(x, σ), as for any score function."""
        # a number is filled in on the device, which as_tensor would wait for
        given = sigma.to(x) if isinstance(sigma, Tensor) else x.new_full((), sigma)
        each = given.expand(len(x), 1, 1, 1)
        return self.output(x, each.flatten()) / each


Maker = Callable[[Any, NetworkSpec], ScoreFunction]
T = TypeVar("T", bound=Maker)

_makers: dict[type[Model], Maker] = {}


def network(config: type[Model]) -> Callable[[T], T]:
    """Class decorator that registers a `ScoreFunction` constructed from (configuration, `NetworkSpec`).

    It also takes a function of the two that returns a ScoreFunction. Raises ValueError if the configuration already has
    a network, TypeError for a class without a score.
    """

    def join(maker: T) -> T:
        if isinstance(maker, type):
            _require_score(maker)
        if _makers.setdefault(config, maker) is not maker:
            raise ValueError(f"{config.__qualname__} already has a network: {_makers[config]!r}")
        return maker

    return join


def construct(model: Model, spec: NetworkSpec) -> ScoreFunction:
    """The network for `model`, as its constructor leaves it.

    Raises NcsnxError if none is registered, TypeError if a function made a module without a score.
    """
    maker = _makers.get(type(model))
    if maker is None:
        raise unregistered("network", type(model), "ncsnx.networks.network")
    made = maker(model, spec)
    _require_score(type(made))
    return made


def _require_score(cls: type) -> None:
    """Raises TypeError that names what a class lacks to be a score network."""
    if not issubclass(cls, ScoreFunction):
        lacking = [name for name in ("score", "scaled_score", "noise_levels", "require_size") if not hasattr(cls, name)]
        raise TypeError(
            f"{cls.__qualname__} is not a score network: it lacks {' and '.join(lacking) or 'parts of the contract'}; "
            "derive it from ncsnx.networks.ScoreFunction, or wrap it in one"
        )
