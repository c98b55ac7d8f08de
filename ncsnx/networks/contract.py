"""The interface of networks: σ times the score of noisy images.

A network is a subclass of `Network`:

    class Plain(Network):
        def __init__(self, model, spec):
            super().__init__(spec)
            self.net = nn.Sequential(nn.Conv2d(spec.channels, model.width, 3, padding=1), nn.ELU(), ...)

        def forward(self, x, sigma, cond):
            return self.net(self.centered(x))

Every network returns σ · s(x, σ): minus the noise that it predicts, of variance 1. `score_of` in `ncsnx.samplers.state`
makes scores of it. This example has the score s(x, σ) = f(x)/σ (technique 3 of Song & Ermon 2020, arXiv 2006.09011,
section 3.3). A network that is conditional on the level sets `any_sigma` to False and takes `self.level_of(sigma)`.

The constructor runs twice: on torch's meta device, where tensors have only shapes, and on the CPU, where its random
draws come from the counter-based generator (see `ncsnx.networks.initialization`).
"""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor, nn

from ncsnx.config import Model
from ncsnx.config.experiment import Precision
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.normalization import at_least_float32
from ncsnx.quantities import counted
from ncsnx.registering import import_modules_of, unregistered
from ncsnx.space import NOISE_TOLERANCE, Space
from ncsnx.spelling import argument
from ncsnx.tensorfloat import tf32_products

Cond: TypeAlias = Mapping[str, Tensor]
"""Further inputs of a network: tensors (B, …) by name, functions of the seed and the positions of images."""
NO_COND: Cond = MappingProxyType({})

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


class Network(nn.Module, ABC):
    """σ · s(x, σ) with the score s of the data perturbed by noise of standard deviation σ; x is (B, C, H, W).

    Public attributes: channels, height, width, noise_levels (descending).
    """

    any_sigma: ClassVar[bool] = True
    """Whether it takes any σ > 0, not only the trained levels."""

    trained_levels: ClassVar[bool] = True
    """Whether the noise levels are those of a training, not only the range of σ."""

    takes_bf16: ClassVar[bool] = True
    """Whether its `autocast` is around the body alone. Rounding its input or output would lose the noise at small σ."""

    tile_unit: int | None = None
    """Pixels whose multiples are the places and sides of tiles (`ncsnx.networks.tiling`). None: what it gives at a
    pixel depends on all of an image."""

    classes: int = 0
    """Number of classes that images are conditional on; 0: none. With classes, cond has `classes`, (B,) int64, each
    from 0 to classes − 1, or NO_CLASS; without that key, images are of no class."""

    sigmas: Tensor
    """Noise levels, (L,) float32, descending. Not in the state, since they follow from the configuration."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.channels, self.height, self.width = spec.space.shape
        self.noise_levels = spec.sigmas
        self.center, self.gain = spec.space.center, spec.space.gain
        self.least_sigma = spec.space.noise
        self.memory_format: torch.memory_format = torch.contiguous_format
        self.precision: Precision = "fp32"
        self.register_buffer("sigmas", torch.tensor(spec.sigmas), persistent=False)

    @property
    def limits_sigmas(self) -> bool:
        """Whether `require_sigmas` refuses some σ."""
        return not self.any_sigma or self.least_sigma > 0

    @property
    def dtype(self) -> torch.dtype:
        """Type of the images that it takes: that of its weights."""
        return next((weights.dtype for weights in self.parameters()), torch.float32)

    @abstractmethod
    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """The network itself: σ · s(x, σ), (B, C, H, W) float32, the shape and type of x. sigma: (B,) float32.

        cond: `training_cond` in training, else `class_cond`.
        """

    def scaled_score(self, x: Tensor, sigma: Tensor, cond: Cond = NO_COND) -> Tensor:
        """The result of `forward` in float32 or wider; in the precision, and compiled, as the network was prepared."""
        x = x.to(memory_format=self.memory_format)
        with self.products():
            out: Tensor = self(x, sigma, cond)
        return at_least_float32(out).contiguous()

    def training_cond(self, positions: Tensor, labels: Tensor | None) -> Cond:
        """Further inputs of `forward` in training beside the class, such as masks of dropout; by default none.

        positions: those of the images in the training stream, (B,) int64, by which they are drawn. labels: of their
        augmentation, (B, spec.labels) float32.
        """
        if labels is not None:
            raise TypeError(f"{type(self).__name__} takes labels, so it has to override training_cond")
        return NO_COND

    def class_cond(self, classes: Tensor) -> Cond:
        """The further input of images of these classes, (B,) int64; none for a network without classes."""
        return {"classes": classes} if self.classes else NO_COND

    def level_of(self, sigma: Tensor) -> Tensor:
        """The level nearest to the σ of each image, (B,) int64; 0 is the largest."""
        return (self.sigmas.log() - sigma.log()[:, None]).abs().argmin(dim=1)

    def require_sigmas(self, sigmas: Iterable[float]) -> None:
        """Raises NcsnxError if the network is conditional on the level, and a σ isn't a trained one (to 1e-6), and for
        a σ below the noise of the training images."""
        sigmas, least = tuple(sigmas), self.least_sigma
        if (low := min(sigmas, default=least)) < least * (1 - NOISE_TOLERANCE):
            raise NcsnxError(
                f"the network learned from images with noise of σ = {least:.6g}, so it knows no σ below: not {low:.6g}",
                Hint("let the sampler end there", adds=f"sampler.grid.sigma_min={least:.6g}"),
                Hint("a picture with just that noise has a mean, but no alternatives", adds=argument("n", 0)),
            )
        if self.any_sigma:
            return
        levels = self.noise_levels
        for sigma in sigmas:
            if not any(math.isclose(sigma, known, rel_tol=_SIGMA_TOLERANCE) for known in levels):
                raise NcsnxError(
                    f"{type(self).__name__} takes only the {counted(len(levels), 'level')} that it was trained at, "
                    f"from {levels[0]:g} to {levels[-1]:g}; σ = {sigma:g} is not one of them",
                    Hint("use these levels", adds="sampler=ald"),
                    Hint("or use sampler.grid=levels with any sampler but ode, without churn"),
                    Hint("or train a model that takes any σ, such as ncsnv2 or unet"),
                )

    def tile_of(self, height: int, width: int) -> int | None:
        """Side of the tiles that images of this size are evaluated in; None: they are evaluated whole."""
        return None

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

    def autocast(self, x: Tensor) -> contextlib.AbstractContextManager[object]:
        """Context of what may run in bfloat16, if that is requested: of the body, `with self.autocast(x):`.

        Rounding the input would cost 4 % of the noise at σ = 0.01.
        """
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def products(self) -> contextlib.AbstractContextManager[object]:
        """Context of the forward and the backward pass: TF32 if requested. `scaled_score` enters it, callers of
        `backward` have to."""
        return tf32_products() if self.precision == "tf32" else contextlib.nullcontext()


Maker = Callable[[Any, NetworkSpec], Network]
T = TypeVar("T", bound=Maker)

_makers: dict[type[Model], Maker] = {}


def network(config: type[Model]) -> Callable[[T], T]:
    """Class decorator that registers a `Network` constructed from (configuration, `NetworkSpec`).

    It also takes a function of the two that returns a Network. Raises ValueError if the configuration already has
    a network, TypeError for a class without a score.
    """

    def join(maker: T) -> T:
        if isinstance(maker, type):
            _require_score(maker)
        if _makers.setdefault(config, maker) is not maker:
            raise ValueError(f"{config.__qualname__} already has a network: {_makers[config]!r}")
        return maker

    return join


def construct(model: Model, spec: NetworkSpec) -> Network:
    """The network for `model`, as its constructor leaves it.

    Raises NcsnxError if none is registered, TypeError if a function made a module without a score.
    """
    if type(model) not in _makers:
        import_modules_of("ncsnx.networks")
    maker = _makers.get(type(model))
    if maker is None:
        raise unregistered("network", type(model), "ncsnx.networks.network")
    made = maker(model, spec)
    _require_score(type(made))
    return made


def _require_score(cls: type) -> None:
    """Raises TypeError that names what a class lacks to be a score network."""
    if not issubclass(cls, Network):
        lacking = [name for name in ("scaled_score", "noise_levels", "require_size") if not hasattr(cls, name)]
        raise TypeError(
            f"{cls.__qualname__} is not a score network: it lacks {' and '.join(lacking) or 'parts of the contract'}; "
            "derive it from ncsnx.networks.Network, or wrap it in one"
        )
