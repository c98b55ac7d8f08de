"""The blocks of the networks: pre-activation residual blocks and RefineNet blocks.

Residual blocks: He et al., arXiv 1603.05027. RefineNet: Lin et al., arXiv 1611.06612, sections 3.2 and 3.3, without
batch normalization. Conditional networks also normalize in refine blocks; unconditional ones don't.
"""

from collections.abc import Callable, Iterable, Sequence

import attrs
import torch
from torch import Tensor, nn

from ncsnx.networks.layers import ActivationLayer, Convolution, PooledConvolution
from ncsnx.networks.normalization import NormalizationFactory
from ncsnx.networks.resampling import resized


@attrs.frozen
class BlockConfig:
    """The building parts shared by all blocks of a network."""

    activation: ActivationLayer
    convolution: type[Convolution]
    normalization: NormalizationFactory
    """Normalization in residual blocks."""
    refine_normalization: NormalizationFactory
    """Normalization in refine blocks."""
    context_pool: Callable[[Tensor], Tensor]
    """Pool in chained residual pooling; keeps the image size."""


class ResidualBlock(nn.Module):
    """Two (normalization, activation, convolution) layers plus a shortcut.

    (B, in, H, W) → (B, out, H, W); `pool` halves height and width. With `transition` the shortcut is a convolution,
    either 1×1 and pooled or 3×3 and dilated. Otherwise it is the identity, and in = out.
    """

    def __init__(
        self, in_channels: int, out_channels: int, config: BlockConfig, *, transition: bool, pool: bool, dilation: int
    ) -> None:
        super().__init__()
        self.activation = config.activation
        self.norm1 = config.normalization(in_channels)
        self.conv1 = config.convolution(in_channels, in_channels, dilation=dilation)
        self.norm2 = config.normalization(in_channels)
        conv2 = config.convolution(in_channels, out_channels, dilation=dilation)
        self.conv2 = PooledConvolution(conv2) if pool else conv2
        self.shortcut = (
            nn.Identity() if not transition else _shortcut(in_channels, out_channels, config, pool, dilation)
        )

    def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
        h = self.conv1(self.norm1(x, levels, then=self.activation))
        h = self.conv2(self.norm2(h, levels, then=self.activation))
        return added(h, self.shortcut(x))


def _shortcut(in_channels: int, out_channels: int, config: BlockConfig, pool: bool, dilation: int) -> nn.Module:
    if pool:
        return PooledConvolution(config.convolution(in_channels, out_channels, size=1))
    return config.convolution(in_channels, out_channels, dilation=dilation)


class ConvolutionUnit(nn.Module):
    """Normalization, activation, 3×3 convolution without bias; keeps the number of channels."""

    def __init__(self, channels: int, config: BlockConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.norm = config.refine_normalization(channels)
        self.conv = config.convolution(channels, channels, bias=False)

    def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
        convolved: Tensor = self.conv(self.norm(x, levels, then=self.activation))
        return convolved


class ResidualConvolutionUnits(nn.ModuleList):
    """RCU: `blocks` chains of two units, each chain added to its input."""

    def __init__(self, channels: int, blocks: int, config: BlockConfig) -> None:
        super().__init__(nn.ModuleList(ConvolutionUnit(channels, config) for _ in range(2)) for _ in range(blocks))

    def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
        for units in self:
            h = x
            for unit in _members(units):
                h = unit(h, levels)
            x = added(h, x)
        return x


class ChainedResidualPooling(nn.Module):
    """CRP: activation, then two (normalization, 5×5 pool of stride 1, convolution) stages; the sum of all results."""

    def __init__(self, channels: int, config: BlockConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.pool = config.context_pool
        self.norms = nn.ModuleList(config.refine_normalization(channels) for _ in range(2))
        self.convs = nn.ModuleList(config.convolution(channels, channels, bias=False) for _ in range(2))

    def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
        x = path = self.activation(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            path = conv(self.pool(norm(path, levels)))
            x = x + path
        return x


class MultiScaleFusion(nn.Module):
    """MSF: normalizes each input, convolves it to the output's width, resizes it, and sums the results."""

    def __init__(self, in_channels: Sequence[int], out_channels: int, config: BlockConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList(config.refine_normalization(channels) for channels in in_channels)
        self.convs = nn.ModuleList(config.convolution(channels, out_channels) for channels in in_channels)

    def forward(self, inputs: Sequence[Tensor], levels: Tensor | None, size: Sequence[int]) -> Tensor:
        first, *others = (
            resized(conv(norm(x, levels)), size) for x, norm, conv in zip(inputs, self.norms, self.convs, strict=True)
        )
        return sum(others, start=first)


class RefineBlock(nn.Module):
    """Adapts each input by RCU, fuses several inputs by MSF, applies CRP, and ends in another RCU.

    The first input is a stage's output and determines height and width. The second, if any, is the deeper block's.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, config: BlockConfig, *, output_blocks: int
    ) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(ResidualConvolutionUnits(channels, 2, config) for channels in in_channels)
        self.fusion = MultiScaleFusion(in_channels, out_channels, config) if len(in_channels) > 1 else None
        self.pooling = ChainedResidualPooling(out_channels, config)
        self.output = ResidualConvolutionUnits(out_channels, output_blocks, config)

    def forward(self, inputs: Sequence[Tensor], levels: Tensor | None) -> Tensor:
        adapted = [adapt(x, levels) for x, adapt in zip(inputs, self.adapt, strict=True)]
        h = adapted[0] if self.fusion is None else self.fusion(adapted, levels, inputs[0].shape[-2:])
        refined: Tensor = self.output(self.pooling(h, levels), levels)
        return refined


def added(h: Tensor, x: Tensor) -> Tensor:
    """h + x, in the memory of h, the fresh result of a convolution, if it has the type of the sum."""
    return h.add_(x) if h.dtype == torch.promote_types(h.dtype, x.dtype) else h + x


def _members(units: nn.Module) -> Iterable[nn.Module]:
    return units.children()
