"""The score network: RefineNet over dilated residual stages, and the face that training and samplers see.

Song & Ermon 2019 (arXiv 1907.05600, appendix A) and 2020 (arXiv 2006.09011, appendix A). The layout tables say how
deep and wide; `NCSNv2Network` and `NCSNNetwork` say how the noise level enters.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from ncsnx.errors import NcsnxError
from ncsnx.networks.blocks import Recipe, RefineBlock, ResidualBlock
from ncsnx.networks.convolution import Convolution
from ncsnx.networks.layouts import Layout
from ncsnx.networks.normalization import Normalization, widened
from ncsnx.quantities import counted


@attrs.frozen(kw_only=True)
class Facts:
    """What a network must know of its data and of the noise."""

    channels: int
    image_size: int
    """Height and width in pixels."""
    sigmas: tuple[float, ...]
    """The noise levels, descending."""
    centered_input: bool
    """Whether images come in [0, 1] and the network maps them to 2x − 1 first."""


class ScoreNetwork(nn.Module, ABC):
    """s(x, σ), the score of the data blurred with noise of standard deviation σ; x is (B, C, H, W).

    The tensors start empty: `ncsnx.networks.build_network` fills them. NcsnxError where the image size isn't one
    that the stages can halve.
    """

    layout: ClassVar[Layout]

    sigmas: Tensor
    """(L,) float32, descending. It follows from the configuration, so it isn't in the state."""

    def __init__(self, recipe: Recipe, last_normalization: Normalization, width: int, facts: Facts) -> None:
        super().__init__()
        _require_fitting(facts.image_size, type(self).__name__, self.layout)
        self.channels = facts.channels
        self.image_size = facts.image_size
        self.noise_levels = facts.sigmas
        self.centered_input = facts.centered_input
        self.memory_format: torch.memory_format = torch.contiguous_format
        self.precision: Literal["fp32", "bf16"] = "fp32"
        self.register_buffer("sigmas", torch.empty(len(facts.sigmas)), persistent=False)
        self.activation = recipe.activation
        self.begin = Convolution(facts.channels, width)
        self.stages = nn.ModuleList(_stages(self.layout, width, recipe))
        self.refine = nn.ModuleList(_refine_blocks(self.layout, width, recipe))
        self.norm = last_normalization
        self.end = Convolution(width, facts.channels)

    @abstractmethod
    def scaled_score(self, x: Tensor, levels: Tensor) -> Tensor:
        """σ · s(x, σ) at the level of each image: x (B, C, H, W) float32, levels (B,) int64, 0 the largest σ."""

    @abstractmethod
    def score(self, x: Tensor, sigma: float) -> Tensor:
        """s(x, σ), all images at one σ: (B, C, H, W) float32, of the shape of x."""

    def output(self, x: Tensor, levels: Tensor | None) -> Tensor:
        """What the network gives, (B, C, H, W) → the same shape; compiled, if it was prepared so and gradients are off.

        torch 2.13 fuses the backward pass of the pooling chains into wrong gradients on CPUs (in the input's by half
        their size and more) without a word, while its outputs are right. Hence gradients come from eager code.
        """
        out: Tensor = self.forward(x, levels) if torch.is_grad_enabled() else self(x, levels)
        return out

    def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
        """The network proper, float32 in and out.

        Only the body may run in bfloat16: rounding the input would cost 4 % of the noise at σ = 0.01.
        """
        x = x.to(memory_format=self.memory_format)
        h = self.begin(2 * x - 1 if self.centered_input else x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            h = self._body(h, levels)
        out: Tensor = self.end(self.activation(self.norm(widened(h), levels)))
        return out.contiguous()

    def _body(self, h: Tensor, levels: Tensor | None) -> Tensor:
        outputs = []
        for stage in self.stages:
            for block in stage.children():
                h = block(h, levels)
            outputs.append(h)
        h = self.refine[0](outputs[-1:], levels)
        for refine, output in zip(list(self.refine)[1:], outputs[-2::-1], strict=True):
            h = refine((output, h), levels)
        return h


def _stages(layout: Layout, width: int, recipe: Recipe) -> Iterator[nn.ModuleList]:
    before = width
    for stage in layout.stages:
        after = stage.width * width
        yield nn.ModuleList(
            (
                ResidualBlock(
                    before, after, recipe, transition=stage.transition, pool=stage.pool, dilation=stage.dilation
                ),
                ResidualBlock(after, after, recipe, transition=False, pool=False, dilation=stage.dilation),
            )
        )
        before = after


def _refine_blocks(layout: Layout, width: int, recipe: Recipe) -> Iterator[RefineBlock]:
    deeper: list[int] = []
    for stage, multiple in zip(reversed(layout.stages), layout.refine, strict=True):
        last = stage is layout.stages[0]
        yield RefineBlock([stage.width * width, *deeper], multiple * width, recipe, output_blocks=3 if last else 1)
        deeper = [multiple * width]


def _require_fitting(image_size: int, network: str, layout: Layout) -> None:
    smallest = 2 * layout.divisor  # a single pixel has no variance to normalize by
    if image_size % layout.divisor or image_size < smallest:
        below = image_size // layout.divisor * layout.divisor
        raise NcsnxError(
            f"{network} needs an image size that is a multiple of {layout.divisor} and at least {smallest}, since its "
            f"stages halve the image {counted(sum(stage.pool for stage in layout.stages), 'time')}, but the data's is "
            f"{image_size}: choose {max(smallest, below)} or {max(smallest, below) + layout.divisor}, or a model "
            "with fewer stages"
        )
