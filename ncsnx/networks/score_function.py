"""What a network is to everything else: the scores of noisy images, at the trained noise levels or at any σ.

A network is a class of this form; how it computes is its own business.

    class Plain(ScoreFunction):
        def __init__(self, model, spec):
            super().__init__(spec)
            self.net = nn.Sequential(nn.Conv2d(spec.channels, model.width, 3, padding=1), nn.ELU(), ...)

        def forward(self, x, levels):
            return self.net(self.centered(x))

As it stands, that is a network whose score is s(x, σ) = f(x)/σ (technique 3 of Song & Ermon 2020, arXiv 2006.09011,
section 3.3), and takes any σ. One that is conditional on the level sets `any_sigma` to False and uses `levels`.

The constructor runs twice: on torch's meta device, where tensors have shapes only, and on the CPU. Whatever it draws
there comes from the counter-based generator (see `ncsnx.networks.initialization`).
"""

import contextlib
import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from ncsnx.errors import NcsnxError
from ncsnx.networks.normalization import at_least_float32

_SIGMA_TOLERANCE = 1e-6  # relative: a level that went through float32 is still that level


@attrs.frozen(kw_only=True)
class NetworkSpec:
    """What a network must know of its data and of the noise."""

    channels: int
    image_size: int
    """Height and width in pixels."""
    sigmas: tuple[float, ...]
    """The noise levels, descending."""
    centered_input: bool
    """Whether images come in [0, 1] and the network is to map them to 2x − 1 first."""


class ScoreFunction(nn.Module, ABC):
    """s(x, σ), the score of the data blurred with noise of standard deviation σ; x is (B, C, H, W).

    Its sizes are public: channels, image_size, noise_levels (descending).
    """

    any_sigma: ClassVar[bool] = True
    """Whether it takes any σ > 0, not only the trained levels."""

    sigmas: Tensor
    """(L,) float32, descending. It follows from the configuration, so it isn't in the state."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.channels = spec.channels
        self.image_size = spec.image_size
        self.noise_levels = spec.sigmas
        self.centered_input = spec.centered_input
        self.memory_format: torch.memory_format = torch.contiguous_format
        self.precision: Literal["fp32", "bf16"] = "fp32"
        self.register_buffer("sigmas", torch.tensor(spec.sigmas), persistent=False)

    @abstractmethod
    def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
        """The network proper, float32 in and out: (B, C, H, W) → the same shape.

        levels: (B,) int64, 0 the largest σ; None for a network that takes any σ. What it gives is σ · s(x, σ) where the
        network takes any σ, and s(x, σ) where it is conditional on the level.
        """

    def scaled_score(self, x: Tensor, levels: Tensor) -> Tensor:
        """σ · s(x, σ) at the level of each image: x (B, C, H, W) float32, levels (B,) int64, 0 the largest σ."""
        if self.any_sigma:
            return self.output(x, None)
        return self.output(x, levels) * self.sigmas[levels].view(-1, 1, 1, 1)

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """s(x, σ), all images at one σ: (B, C, H, W) float32, of the shape of x.

        NcsnxError where the network is conditional, and σ isn't one of the trained levels (to 1e-6).
        """
        if self.any_sigma:
            return self.output(x, None) / sigma
        levels = torch.full((x.shape[0],), self._level(sigma), device=x.device)
        return self.output(x, levels)

    def centered(self, x: Tensor) -> Tensor:
        """x as the first layer is to see it: 2x − 1 for images in [0, 1]."""
        return 2 * x - 1 if self.centered_input else x

    def lower_precision(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """Around what may run in bfloat16 where that was asked for: by default the whole of `forward`."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def output(self, x: Tensor, levels: Tensor | None) -> Tensor:
        """What `forward` gives, in float32 at least; compiled, if it was prepared so and gradients are off.

        torch 2.13 fuses the backward pass of the pooling chains into wrong gradients on CPUs (in the input's by half
        their size and more) without a word, while its outputs are right. Hence gradients come from eager code.
        """
        x = x.to(memory_format=self.memory_format)
        with self.lower_precision(x.device):
            out: Tensor = self.forward(x, levels) if torch.is_grad_enabled() else self(x, levels)
        return at_least_float32(out).contiguous()

    def _level(self, sigma: float) -> int:
        for level, known in enumerate(self.noise_levels):
            if math.isclose(sigma, known, rel_tol=_SIGMA_TOLERANCE):
                return level
        raise NcsnxError(
            f"{type(self).__name__} is conditional on the levels that it was trained at: {len(self.noise_levels)} "
            f"from {self.noise_levels[0]:g} to {self.noise_levels[-1]:g}; σ = {sigma:g} is not one of them. Keep "
            "to those, by sampler=ald, or by sampler.grid=levels with another sampler than ode and no churn; or train "
            "one of the NCSNv2 models, which take any σ"
        )
