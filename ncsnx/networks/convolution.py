"""Convolutions that keep the image size (plain and spectrally normalized), and one followed by a 2×2 mean pool."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncsnx.networks.initialization import Initializer, UnitVector, fan_in_uniform


class Convolution(nn.Module):
    """A size×size convolution, zero-padded to keep height and width. Its tensors start uninitialized."""

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
        """Number of zeros on each side."""
        return self.dilation * (self.size // 2)

    def kernel(self) -> Tensor:
        """The kernel, (out, in, size, size)."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, padding=self.padding, dilation=self.dilation)


class SpectralConvolution(Convolution):
    """A convolution whose kernel, as a matrix (out, rest), is divided by an estimate of its largest singular value.

    Spectral normalization (Miyato et al., arXiv 1802.05957, algorithm 1) as in torch's older implementation: one power
    iteration per forward pass in training mode, the stored vectors in evaluation mode.
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
            # Copies, since a second forward pass would overwrite what the backward pass needs.
            return self.weight_orig / torch.dot(self.weight_u.clone(), matrix @ self.weight_v.clone())

    @torch.no_grad()
    def _power_iteration(self, matrix: Tensor) -> None:
        self.weight_v.copy_(F.normalize(matrix.T @ self.weight_u, dim=0, eps=1e-12))
        self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0, eps=1e-12))


class PooledConvolution(nn.Module):
    """A convolution followed by a 2×2 mean pool; halves height and width, which must be even."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(x), 2)
