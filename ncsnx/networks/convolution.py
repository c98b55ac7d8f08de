"""Convolutions that keep the image size: plain, spectrally normalized, and followed by a 2×2 mean pool."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncsnx.networks.initialization import Initializer, UnitVector, fan_in_uniform


class Convolution(nn.Module):
    """A size×size convolution, padded with zeros to keep height and width. The tensors start empty."""

    def __init__(
        self, in_channels: int, out_channels: int, *, size: int = 3, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.size = size
        self.dilation = dilation
        weight = torch.empty(out_channels, in_channels, size, size)
        initializer = fan_in_uniform(in_channels * size**2)
        self.initializers = self._hold(weight, initializer)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        if bias:
            self.initializers["bias"] = initializer

    def _hold(self, weight: Tensor, initializer: Initializer) -> dict[str, Initializer]:
        self.weight = nn.Parameter(weight)
        return {"weight": initializer}

    @property
    def padding(self) -> int:
        """Zeros on each side."""
        return self.dilation * (self.size // 2)

    def kernel(self) -> Tensor:
        """(out, in, size, size): what the image is convolved with."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, padding=self.padding, dilation=self.dilation)


class SpectralConvolution(Convolution):
    """A convolution whose kernel, as a matrix (out, rest), is divided by an estimate of its largest singular value.

    Spectral normalization (Miyato et al., arXiv 1802.05957, algorithm 1) in torch's older form: one power iteration
    at each evaluation in training mode; in evaluation mode the stored vectors as they are.
    """

    weight_u: Tensor
    weight_v: Tensor

    def _hold(self, weight: Tensor, initializer: Initializer) -> dict[str, Initializer]:
        self.weight_orig = nn.Parameter(weight)
        self.register_buffer("weight_u", torch.empty(weight.shape[0]))
        self.register_buffer("weight_v", torch.empty(weight[0].numel()))
        return {"weight_orig": initializer, "weight_u": UnitVector(), "weight_v": UnitVector()}

    def kernel(self) -> Tensor:
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            matrix = self.weight_orig.flatten(1)
            if self.training:
                self._power_iteration(matrix.detach())
            # Copies, since a second evaluation before the backward pass would overwrite what it needs.
            return self.weight_orig / torch.dot(self.weight_u.clone(), matrix @ self.weight_v.clone())

    @torch.no_grad()
    def _power_iteration(self, matrix: Tensor) -> None:
        self.weight_v.copy_(F.normalize(matrix.T @ self.weight_u, dim=0, eps=1e-12))
        self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0, eps=1e-12))


class PooledConvolution(nn.Module):
    """A convolution, then the mean over each 2×2 square: halves height and width, which must be even."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(x), 2)
