"""RefineNet over dilated residual stages: the score networks of both papers.

Song & Ermon 2019 (arXiv 1907.05600, appendix A) and 2020 (arXiv 2006.09011, appendix A). The layout tables define depth
and width; `NCSNv2Network` and `NCSNNetwork` define how the noise level enters.
"""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from ncsnx.config.image_sizes import size_as_words, size_in_words
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.blocks import BlockConfig, RefineBlock, ResidualBlock
from ncsnx.networks.contract import Cond, Network, NetworkSpec
from ncsnx.networks.layers import Convolution
from ncsnx.networks.layouts import NetworkLayout
from ncsnx.networks.normalization import NormalizationLayer, at_least_float32
from ncsnx.quantities import counted


class RefineNet(Network):
    """A network whose tensors start uninitialized; `ncsnx.networks.build_network` fills them.

    Raises NcsnxError for an image size that the stages can't halve.
    """

    layout: ClassVar[NetworkLayout]

    def __init__(
        self, config: BlockConfig, last_normalization: NormalizationLayer, width: int, spec: NetworkSpec
    ) -> None:
        super().__init__(spec)
        try:
            self.require_size(spec.height, spec.width)
        except NcsnxError as error:
            raise NcsnxError(error.message, *error.hints, Hint("or choose a model with fewer stages")) from error
        self.activation = config.activation
        self.begin = Convolution(spec.channels, width)
        self.stages = nn.ModuleList(_stages(self.layout, width, config))
        self.refine = nn.ModuleList(_refine_blocks(self.layout, width, config))
        self.norm = last_normalization
        self.end = Convolution(width, spec.channels)

    def require_size(self, height: int, width: int) -> None:
        """Raises NcsnxError for a size that the stages can't halve; any other is fine, whatever it was built for."""
        if any(not self.layout.fits(side) for side in (height, width)):
            raise _unfitting((height, width), type(self).__name__, self.layout)

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        levels = None if self.any_sigma else self.level_of(sigma)
        h = self.begin(self.centered(x))
        with self.autocast(x):
            h = self._body(h, levels)
        out: Tensor = self.end(self.norm(at_least_float32(h), levels, then=self.activation))
        # a network of levels gives the score itself
        return out if self.any_sigma else sigma.view(-1, 1, 1, 1) * out

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


def _stages(layout: NetworkLayout, width: int, config: BlockConfig) -> Iterator[nn.ModuleList]:
    before = width
    for stage in layout.stages:
        after = stage.width * width
        yield nn.ModuleList(
            (
                ResidualBlock(
                    before, after, config, transition=stage.transition, pool=stage.pool, dilation=stage.dilation
                ),
                ResidualBlock(after, after, config, transition=False, pool=False, dilation=stage.dilation),
            )
        )
        before = after


def _refine_blocks(layout: NetworkLayout, width: int, config: BlockConfig) -> Iterator[RefineBlock]:
    deeper: list[int] = []
    for stage, multiple in zip(reversed(layout.stages), layout.refine, strict=True):
        last = stage is layout.stages[0]
        yield RefineBlock([stage.width * width, *deeper], multiple * width, config, output_blocks=3 if last else 1)
        deeper = [multiple * width]


def _unfitting(size: tuple[int, int], network: str, layout: NetworkLayout) -> NcsnxError:
    divisor, smallest = layout.divisor, layout.smallest
    smaller = tuple(max(smallest, side // divisor * divisor) for side in size)
    larger = tuple(near if near >= side else near + divisor for near, side in zip(smaller, size, strict=True))
    what = "an image size that is" if size[0] == size[1] else "images whose height and width are each"
    near = " or ".join(dict.fromkeys(size_as_words((height, width)) for height, width in (smaller, larger)))
    return NcsnxError(
        f"{network} needs {what} a multiple of {divisor} and at least {smallest}, since it halves the image "
        f"{counted(sum(stage.pool for stage in layout.stages), 'time')}; found {size_in_words(size)}",
        Hint(f"choose size {near}"),
    )
