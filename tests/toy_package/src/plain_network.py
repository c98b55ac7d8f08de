"""A plain convolutional score network."""

from plain_config import Plain
from torch import Tensor, nn

from ncsnx.networks import Cond, Network, NetworkSpec, network


@network(Plain)
class PlainNetwork(Network):
    """s(x, σ) = f(x)/σ, for any σ."""

    def __init__(self, model: Plain, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.body = nn.Sequential(
            nn.Conv2d(spec.channels, model.width, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(model.width, model.width, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(model.width, spec.channels, 3, padding=1),
        )

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        return self.body(self.centered(x))
