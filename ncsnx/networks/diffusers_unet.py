"""A network of the package diffusers as σ times a score, at any σ.

Step t of a diffusion is z_t = (x_0 + σ ε)/√(1 + σ²) with σ = √((1 − ᾱ_t)/ᾱ_t) (Ho et al. 2020, arXiv 2006.11239,
equation 4), so that the network sees x/√(1 + σ²). Between two steps, t is interpolated in ln σ.
"""

import json
from typing import Any

import torch
from torch import Tensor

from ncsnx.config.image_sizes import size_in_words
from ncsnx.config.model import Diffusers
from ncsnx.config.user_code import foreign_errors
from ncsnx.errors import Hint, NcsnxError, quoted
from ncsnx.networks.contract import Cond, Network, NetworkSpec, network
from ncsnx.networks.optional_packages import required

_MOST_LAYERS, _MOST_BLOCKS = 16, 16


def completed(unet: dict[str, Any]) -> str:
    """The configuration of a UNet2DModel as one line of JSON, with every default of this version, without dropout.

    Masks of dropout would come from torch's generator, so that a training couldn't be resumed exactly.
    """
    built = _built({**unet, "dropout": 0.0}, torch.device("meta"))
    kept = {name: value for name, value in dict(built.config).items() if not name.startswith("_")}
    return json.dumps(kept, sort_keys=True)


def require_modest(values: Any, what: str, *, most: int = 16_384) -> None:
    """Raises NcsnxError for numbers and lists in a stranger's configuration that would take hours or gigabytes."""
    if isinstance(values, dict | list):
        if len(values) > most:
            raise NcsnxError(f"{what} has {len(values):,} values in one place, more than {most:,}")
        for one in values.values() if isinstance(values, dict) else values:
            require_modest(one, what, most=most)
    elif isinstance(values, int | float) and not abs(values) <= most:
        raise NcsnxError(f"{what} has the number {quoted(values)}, above {most:,}")


def _built(unet: dict[str, Any], device: torch.device) -> Any:
    """The module of a configuration, which comes from strangers. Raises NcsnxError."""
    diffusers = required("diffusers", "diffusers", "this model")
    require_modest(unet, "the network's configuration")
    if isinstance(layers := unet.get("layers_per_block"), int) and layers > _MOST_LAYERS:
        raise NcsnxError(f"the network's configuration has {layers:,} layers in a block, more than {_MOST_LAYERS}")
    if isinstance(blocks := unet.get("block_out_channels"), list) and len(blocks) > _MOST_BLOCKS:
        raise NcsnxError(f"the network's configuration has {len(blocks):,} blocks, more than {_MOST_BLOCKS}")
    if (kind := unet.get("time_embedding_type", "positional")) != "positional":
        raise NcsnxError(f"the network embeds its steps by {quoted(kind)}, and only positional embeddings are read")
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()
    try:
        with foreign_errors("diffusers builds no UNet2DModel of this configuration"), device:
            return diffusers.UNet2DModel.from_config(unet)
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)


@network(Diffusers)
class DiffusersNetwork(Network):
    """σ · s(x, σ) of a `UNet2DModel`."""

    log_sigmas: Tensor
    takes_bf16 = False

    def __init__(self, model: Diffusers, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.prediction, self.classes = model.prediction, model.classes
        try:
            unet = json.loads(model.unet)
        except ValueError as error:
            raise NcsnxError("model.unet: expected the configuration of a UNet2DModel as JSON") from error
        self.unet = _built(unet, torch.get_default_device())
        self.divisor = 2 ** (len(self.unet.config.block_out_channels) - 1)
        known = torch.tensor(spec.sigmas[::-1], dtype=torch.float64).log()
        self.register_buffer("log_sigmas", known.float(), persistent=False)

    def require_size(self, height: int, width: int) -> None:
        """Raises NcsnxError for a size that the stages can't halve."""
        if height % self.divisor or width % self.divisor:
            raise NcsnxError(
                f"this U-Net takes only a height and width that are each a multiple of {self.divisor}; found "
                f"{size_in_words((height, width))}",
                Hint("choose another size"),
            )

    def step_at(self, sigma: Tensor) -> Tensor:
        """t, (B,) float32: the fractional step at σ, (B,); the first or the last one beyond the ends."""
        wanted, known = sigma.float().log(), self.log_sigmas
        after = torch.searchsorted(known, wanted.contiguous()).clamp(1, len(known) - 1)
        share = (wanted - known[after - 1]) / (known[after] - known[after - 1])
        return after - 1 + share.clamp(0, 1)

    def forward(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        sigma = sigma.to(x.dtype).view(-1, 1, 1, 1)
        size = (1 + sigma**2).sqrt()
        x = x - self.center  # of images in [−1, 1], which the network was trained on, 0
        if self.classes and "classes" not in cond:
            raise NcsnxError("this network needs the class of each image, cond={'classes': …}")
        out: Tensor = self.unet(x / size, self.step_at(sigma.flatten()), class_labels=cond.get("classes")).sample
        out = out[:, : self.channels]  # learned variances follow
        if self.prediction == "epsilon":
            return -out
        if self.prediction == "sample":
            return (out - x) / sigma
        return -(sigma * x / size + out) / size
