"""A denoiser of the package deepinv as σ times a score."""

from typing import Any

import torch
from torch import Tensor

from ncsnx.config.image_sizes import size_in_words
from ncsnx.config.model import Deepinv
from ncsnx.errors import NcsnxError
from ncsnx.networks.contract import Cond, Network, NetworkSpec, network
from ncsnx.networks.optional_packages import required


@network(Deepinv)
class DeepinvNetwork(Network):
    """σ · s(x, σ) = (D(x, σ) − x)/σ of a denoiser D(x, σ) of images in [0, 1]."""

    takes_bf16 = False

    def __init__(self, model: Deepinv, spec: NetworkSpec) -> None:
        super().__init__(spec)
        models = required("deepinv.models", "science", f"the denoiser {model.denoiser}")
        self.name = model.denoiser
        arguments = _arguments(model.denoiser, self.channels)
        device = torch.get_default_device()  # it moves there itself, as from torch's meta device to the CPU
        self.denoiser = getattr(models, model.denoiser)(pretrained=None, device=device, **arguments)

    def require_size(self, height: int, width: int) -> None:
        """Raises NcsnxError for a size that NCSNpp can't halve; the other denoisers pad their input themselves."""
        if self.name == "NCSNpp" and (height % 8 or width % 8):
            raise NcsnxError(f"NCSNpp takes sides that are multiples of 8 px, found {size_in_words((height, width))}")

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        denoised: Tensor = self.denoiser(x, sigma)
        return (denoised - x) / sigma.to(x.dtype).view(-1, 1, 1, 1)


def _arguments(name: str, channels: int) -> dict[str, Any]:
    """Arguments of the networks whose weights deepinv publishes. Raises NcsnxError for another name."""
    if name == "DRUNet":
        return {"in_channels": channels, "out_channels": channels}
    if name == "FFDNet":
        sizes = {"n_conv_layers": 12, "nf": 96} if channels == 3 else {}
        return {"img_channels": channels, **sizes}
    if name == "NCSNpp":
        parts = {"in_channels": channels, "out_channels": channels}
        return {**parts, "pixel_std": 0.5, "_was_trained_on_minus_one_one": True}
    raise NcsnxError(f"expected the denoiser DRUNet, FFDNet or NCSNpp of deepinv, found {name!r}")
