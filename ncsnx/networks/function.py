"""A network that is any function of a noisy image and σ."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.contract import Cond, Network, NetworkSpec

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
