"""An existing module as a score network."""

from torch import Tensor, nn
from wrapped_config import Wrapped

from ncsnx.networks import Cond, Network, NetworkSpec, network


class NoisePredictor(nn.Module):
    """The existing module: it predicts the noise in x, given σ."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.last(self.first(x / (1 + sigma**2).sqrt()).relu())


@network(Wrapped)
class WrappedNetwork(Network):
    """s(x, σ) = −ε(x, σ)/σ of a predictor ε of the noise."""

    def __init__(self, model: Wrapped, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.predictor = NoisePredictor(spec.channels, model.width)

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        return -self.predictor(x, sigma.view(-1, 1, 1, 1))
