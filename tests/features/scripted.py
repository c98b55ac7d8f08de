"""TorchScript files for tests: stand-ins for the Inception network, and user networks."""

import hashlib
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 2048


class PooledFeatures(nn.Module):
    """A grid of means times a matrix, so that every pixel matters."""

    def __init__(self, channels: int = 3, features: int = FEATURES, side: int = 8) -> None:
        super().__init__()
        self.side = side
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("matrix", torch.randn(channels * side**2, features, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.side).flatten(1) @ self.matrix


class SquareFeatures(nn.Module):
    """Features of shape (B, D, 1, 1), as from the layers of the Inception file."""

    def __init__(self, features: int = FEATURES) -> None:
        super().__init__()
        self.pooled = PooledFeatures(features=features)

    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(x)[:, :, None, None]


class StandIn(nn.Module):
    """The structure of the Inception file: `layers`, and `output` with a bias."""

    def __init__(self, features: int = FEATURES, classes: int = 10) -> None:
        super().__init__()
        self.layers = SquareFeatures(features)
        self.output = nn.Linear(features, classes)
        with torch.no_grad():
            self.output.weight.copy_(torch.linspace(-1, 1, classes * features).view(classes, features))
            self.output.bias.fill_(100.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.layers((x - 128) / 128).flatten(1)).softmax(1)


class WithLogits(nn.Module):
    """Features and logits in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.pooled = PooledFeatures(features=6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.pooled(x)
        return features, features[:, :4] * 2


class GrayOnly(nn.Module):
    """Accepts images of one channel and any size."""

    def __init__(self) -> None:
        super().__init__()
        self.pooled = PooledFeatures(channels=1, features=5, side=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(x)


class Images(nn.Module):
    """Breaks the contract: returns images."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Three(nn.Module):
    """Breaks the contract: returns three tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, x, x


def scripted(network: nn.Module, path: Path) -> Path:
    """Writes the network as a TorchScript file; returns its path."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="`torch.jit")
        torch.jit.script(network).save(str(path))
    return path


def sha256(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pictures(count: int, channels: int, side: int = 8) -> Tensor:
    """(count, channels, side, side) uint8, every value equally likely."""
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (count, channels, side, side), generator=generator, dtype=torch.uint8)
