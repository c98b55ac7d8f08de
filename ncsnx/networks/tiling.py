"""Networks that evaluate another one: in overlapping tiles, for pictures of any size in bounded memory. They nest."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.networks.contract import Cond, Network, NetworkSpec
from ncsnx.space import Space
from ncsnx.spelling import parameter
from ncsnx.stopping import check_stop


class WrappedNetwork(Network):
    """A network that evaluates another, whose levels, classes, sizes and precision it has."""

    def __init__(self, network: Network, space: Space) -> None:
        super().__init__(NetworkSpec(space=space, sigmas=network.noise_levels))
        self.network = network
        self.tile_unit, self.classes = network.tile_unit, network.classes
        self.memory_format, self.precision = network.memory_format, network.precision
        for name in ("any_sigma", "trained_levels", "takes_bf16"):
            setattr(self, name, getattr(network, name))

    def require_sigmas(self, sigmas: Iterable[float]) -> None:
        """Raises what the network raises for these levels."""
        self.network.require_sigmas(sigmas)

    def require_size(self, height: int, width: int) -> None:
        """Raises what the network raises for this size."""
        self.network.require_size(height, width)

    def tile_of(self, height: int, width: int) -> int | None:
        """Side of the network's tiles."""
        return self.network.tile_of(height, width)


MARGIN = 64
"""Pixels around a tile that are evaluated, and not used. What a network sees from farther away changes D little."""
DEFAULT_SIDE = 256
_PIXELS_AT_ONCE = 2**19
"""Most pixels that are evaluated at once; the activations of a network 48 wide take some 2 kB each."""


class TiledNetwork(WrappedNetwork):
    """Another network, whose value at a pixel depends on the pixel's surroundings only.

    Pictures are mirrored at the right and at the bottom until the network can halve their sides, and a picture larger
    than a tile with its margins is evaluated tile by tile. The noise is that of the whole picture. A tile begins where
    the network's own grid of halved pixels does, so that the pixels beyond its margins are those of the whole picture.
    """

    def __init__(self, network: Network, space: Space, side: int) -> None:
        """side: height and width of a tile without margins. Raises NcsnxError for a network that sees whole images."""
        super().__init__(network, space)
        if network.tile_unit is None:
            raise NcsnxError(
                f"{parameter('tile')}: {type(network).__name__} depends on all of an image at each of its pixels, by "
                "its normalization or attention, so that its tiles would show seams"
            )
        self.unit = network.tile_unit
        self.side, self.margin = (-(-pixels // self.unit) * self.unit for pixels in (side, MARGIN))

    def tile_of(self, height: int, width: int) -> int | None:
        """`side`, unless the image isn't larger than a tile with its margins."""
        return self.side if max(height, width) > self.most else None

    def require_size(self, height: int, width: int) -> None:
        """Accepts all sizes."""

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        height, width = x.shape[-2:]
        for axis, size in ((2, height), (3, width)):
            if size % self.unit:
                x = x.index_select(axis, mirrored(size, self.unit, x.device))
        at_once = max(1, _PIXELS_AT_ONCE // (min(x.shape[-2], self.most) * min(x.shape[-1], self.most)))
        parts = []
        for begin in range(0, len(x), at_once):
            rows = slice(begin, begin + at_once)
            given = {name: one[rows] for name, one in cond.items()}
            parts.append(self._of_tiles(x[rows], sigma[rows], given))
        return torch.cat(parts)[..., :height, :width]

    @property
    def most(self) -> int:
        """Largest side that is evaluated."""
        return self.side + 2 * self.margin

    def _of_tiles(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        # one tensor: joining tiles would fragment memory
        whole = torch.empty_like(x, memory_format=torch.contiguous_format)
        for seen_rows, used_rows, rows in self._tiles(x.shape[-2]):
            for seen, used, columns in self._tiles(x.shape[-1]):
                check_stop()
                tile = self.network.scaled_score(x[..., seen_rows, seen], sigma, cond)
                whole[..., rows, columns] = tile[..., used_rows, used]
        return whole

    def _tiles(self, size: int) -> Iterator[tuple[slice, slice, slice]]:
        """(what a tile sees of a side, the part of that which is used, its place) along a side of so many pixels."""
        if size <= self.most:
            yield slice(0, size), slice(0, size), slice(0, size)
            return
        for begin in range(0, size, self.side):
            first, end = max(0, begin - self.margin), min(size, begin + self.side)
            yield slice(first, min(size, end + self.margin)), slice(begin - first, end - first), slice(begin, end)


def in_tiles(network: Network, space: Space, side: int) -> Network:
    """The network in tiles of this side, in place of its own tiles. Raises NcsnxError as `TiledNetwork`."""
    return TiledNetwork(network.network if isinstance(network, TiledNetwork) else network, space, side)


def is_in_tiles(network: Network) -> bool:
    """Whether a network, or one that it wraps, is evaluated in tiles."""
    return any(isinstance(part, TiledNetwork) for part in network.modules())


def mirrored(size: int, unit: int, device: torch.device | None = None) -> Tensor:
    """Indices of `size` pixels and their mirror image, up to a multiple of `unit`: 0, 1, 2, 2 for (3, 4)."""
    places = torch.arange(-(-size // unit) * unit, device=device) % (2 * size)
    return torch.where(places < size, places, 2 * size - 1 - places)
