"""The architectures of the networks as tables: stages on the way down, refine blocks on the way up."""

import attrs


@attrs.frozen
class Stage:
    """Two residual blocks at one resolution. `width` is in multiples of the network's width."""

    width: int
    pool: bool = False
    """Halve height and width at the end of the first block."""
    dilation: int = attrs.field(default=1)
    """Above 1, dilate the convolutions instead of halving the resolution (Yu & Koltun, arXiv 1511.07122)."""

    @dilation.validator
    def _instead_of_a_pool(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if self.pool and value > 1:
            raise ValueError("a stage has a pool or a dilation, not both")

    @property
    def transition(self) -> bool:
        """Whether the first block has a convolution in its shortcut."""
        return self.pool or self.dilation > 1


@attrs.frozen
class NetworkLayout:
    """The stages from the image down, and the widths of the refine blocks from the deepest stage up."""

    stages: tuple[Stage, ...]
    refine: tuple[int, ...]

    @property
    def divisor(self) -> int:
        """Number that the height and the width of images must be multiples of."""
        return int(2 ** sum(stage.pool for stage in self.stages))

    @property
    def smallest(self) -> int:
        """Smallest height and width, since a single pixel has no variance to normalize by."""
        return 2 * self.divisor

    def fits(self, side: int) -> bool:
        """Whether the stages can halve a height or width of so many pixels."""
        return side % self.divisor == 0 and side >= self.smallest


NCSNV2 = NetworkLayout(
    stages=(Stage(1), Stage(2, pool=True), Stage(2, dilation=2), Stage(2, dilation=4)),
    refine=(2, 2, 1, 1),
)
DEEPER = NetworkLayout(
    stages=(Stage(1), Stage(2, pool=True), Stage(2, pool=True), Stage(4, dilation=2), Stage(4, dilation=4)),
    refine=(4, 2, 2, 1, 1),
)
DEEPEST = NetworkLayout(
    stages=(
        Stage(1),
        Stage(2, pool=True),
        Stage(2, pool=True),
        Stage(2, pool=True),
        Stage(4, dilation=2),
        Stage(4, dilation=4),
    ),
    refine=(4, 2, 2, 2, 1, 1),
)
