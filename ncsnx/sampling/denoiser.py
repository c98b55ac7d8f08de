"""A model as a denoiser of images, in the form that the library deepinv expects."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ncsnx.config.data_sets import Data
from ncsnx.data import from_values
from ncsnx.errors import NcsnxError


class Denoiser(nn.Module):
    """D(y, σ) = y + σ² s(y, σ) with gradients if y requires them.

    Images are in [0, 1] or, for a model of unbounded data, in the data's own values; noise is in the same units. Raises
    NcsnxError for a model of logits, where noise of the images isn't Gaussian.
    """

    def __init__(self, network: nn.Module, denoise: Callable[[Tensor, float | Tensor], Tensor], data: Data) -> None:
        """denoise: (x, σ) → the denoised images, in the network's range."""
        super().__init__()
        if data.transform == "logit":
            raise NcsnxError("a model of logits (data.transform=logit) is no denoiser of images in [0, 1]")
        self.network, self.denoise = network, denoise
        black, white = (float(from_values(torch.tensor(value, dtype=torch.float64), data)) for value in (0.0, 1.0))
        self.black, self.scale = black, white - black

    def forward(self, y: Tensor, sigma: float | Tensor, **ignored: object) -> Tensor:
        """The mean of the clean images, (B, C, H, W), not clamped. sigma: σ of all images, or (B,), one of each.

        Raises NcsnxError for a σ that the network doesn't accept. Other arguments are ignored.
        """
        if isinstance(sigma, Tensor):
            sigma = float(sigma) if sigma.numel() == 1 else sigma.to(y).view(-1, 1, 1, 1)
        denoised = self.denoise(self.black + self.scale * y, self.scale * sigma)
        return (denoised - self.black) / self.scale
