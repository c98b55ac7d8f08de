"""A network that is any function of a noisy image and σ, and the checks of what `Model.of` is given."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ncsnx.config.checks import is_whole
from ncsnx.config.data_sets import Data
from ncsnx.config.sampler import AnnealedLangevin, GridSampler, Sampler, TrainedLevels
from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.networks.contract import Cond, Network, NetworkSpec
from ncsnx.space import Space

Gives = Literal["denoised", "noise", "score"]


class FunctionNetwork(Network):
    """σ · s(x, σ) by a function (x, σ, **cond) of images (B, C, H, W) and σ (B,), which may be a module."""

    trained_levels = False

    def __init__(self, function: Callable[..., Tensor], gives: Gives, name: str, spec: NetworkSpec) -> None:
        """gives: D(x, σ), the noise (x − D)/σ, or the score (D − x)/σ²."""
        super().__init__(spec)
        self.function, self.gives, self.name = function, gives, name

    @property
    def dtype(self) -> torch.dtype:
        """float32, which is converted to the type of a module's weights."""
        return torch.float32

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        inner = next((weights.dtype for weights in self.parameters()), x.dtype)
        given: Any = self.function(x.to(inner, copy=True), sigma.to(inner), **cond)  # a copy: it may be changed
        if not isinstance(given, Tensor) or given.shape != x.shape:
            found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise NcsnxError(f"{self.name} must return a tensor of the shape of x, {tuple(x.shape)}, not {found}")
        if torch.is_grad_enabled() and x.requires_grad and not given.requires_grad:
            raise NcsnxError(
                f"{self.name} returns a tensor without a gradient, which is needed here",
                Hint("leave out torch.no_grad() in it"),
            )
        out, each = given.to(x.dtype), sigma.view(-1, 1, 1, 1)
        if self.gives == "denoised":
            return (out - x) / each
        return -out if self.gives == "noise" else each * out

    def require_size(self, height: int, width: int) -> None:
        """Accepts all sizes: only the function knows."""


def space_of(
    shape: tuple[int, int, int] | None, ends: tuple[float, float] | None, space: Space | None, data: Data | None
) -> Space:
    """The space of a function's images, by one of its three descriptions. Raises UsageError."""
    if shape is None and space is None and data is None:
        raise UsageError("a model of a function needs the shape of its images: give shape, space or data")
    if data is not None and not isinstance(data, Data):
        raise UsageError(f"data must be a data set such as ncsnx.config.Digits(), not {quoted(data)}")
    if space is not None and not isinstance(space, Space):
        raise UsageError(f"space must be a Space, such as that of a loaded model, not {quoted(space)}")
    given: object = shape
    if given is not None and not (isinstance(given, tuple) and len(given) == 3 and all(map(is_whole, given))):
        raise UsageError(f"shape must be (channels, height, width), not {quoted(shape)}")
    if shape is not None and (space is not None or data is not None):
        raise UsageError("shape is for a model without a space and a data set, which have one; leave it out")
    if ends is not None and shape is None:
        raise UsageError("ends are for a model with a shape alone; a space or a data set has them")
    if shape is not None:
        return Space.with_ends(shape, ends)
    if space is None:
        assert data is not None
        return Space.of(data)
    if data is not None and (differing := _differences(space, data)):
        raise UsageError(f"the space is not that of the data: its {differing} differs")
    return space


def _differences(space: Space, data: Data) -> str:
    declared = Space.of(data, scale=space.span)
    names = ("shape", "offset", "scale", "bounded", "complex", "logit")
    return next((name for name in names if getattr(space, name) != getattr(declared, name)), "")


def check_function(function: object, gives: Gives, sigma_max: float, sigma_min: float, sampler: object) -> None:
    """Raises UsageError for values that `Model.of` does not take."""
    if not callable(function):
        raise UsageError(f"function must be a function of (x, sigma) or a module, not {quoted(function)}")
    if gives not in get_args(Gives):
        raise UsageError(f"gives must be one of {', '.join(get_args(Gives))}, not {quoted(gives)}")
    levels = (sigma_min, sigma_max)
    if not all(isinstance(level, int | float) for level in levels) or not 0 < sigma_min < sigma_max < math.inf:
        raise UsageError(f"expected 0 < sigma_min < sigma_max, found {quoted(sigma_min)} and {quoted(sigma_max)}")
    if not isinstance(sampler, Sampler):
        raise UsageError(f"sampler must be a configuration such as ncsnx.config.Heun(), not {quoted(sampler)}")


def device_of(function: object) -> torch.device:
    """The device of a module's weights; else the CPU."""
    weights = next(function.parameters(), None) if isinstance(function, nn.Module) else None
    return torch.device("cpu") if weights is None else weights.device


def require_grid(sampler: Sampler, where: str) -> None:
    """Raises UsageError for a sampler that visits trained levels, of which a function has none."""
    on_levels = isinstance(sampler, GridSampler) and isinstance(sampler.grid, TrainedLevels)
    if on_levels or isinstance(sampler, AnnealedLangevin):
        raise UsageError(
            f"the sampler visits the levels that a network was trained at, and {where} has none",
            Hint("take one with a grid of its own, such as ncsnx.config.Heun()"),
        )
