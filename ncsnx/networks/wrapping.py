"""Networks that evaluate another one, such as in tiles; they nest."""

from collections.abc import Iterable

from ncsnx.networks.contract import Network, NetworkSpec
from ncsnx.space import Space


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
