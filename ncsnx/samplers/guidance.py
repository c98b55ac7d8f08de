"""Classifier-free guidance: scores that go further towards a class (Ho & Salimans 2022, arXiv 2207.12598)."""

import math
from typing import Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.model_spec import NO_CLASS
from ncsnx.networks.contract import Cond
from ncsnx.samplers.state import ScaledScore


@attrs.frozen
class Guidance:
    """D_u + w (D_c − D_u), with the denoised images of a network that is given no class (u) and the class (c)."""

    weight: float
    """w; 1 is no guidance."""
    low: float = 0.0
    high: float = math.inf
    """Guidance is for low < σ <= high (Kynkäänniemi et al. 2024, arXiv 2404.07724)."""

    @classmethod
    def of(cls, config: Sampler) -> Self | None:
        """The guidance of a sampler; None without."""
        return None if config.guidance == 1 else cls(config.guidance, *(config.guidance_interval or ()))

    def at(self, model: ScaledScore, sigma: float | Tensor) -> tuple[ScaledScore, int]:
        """The model at σ, and how often it evaluates each image: once outside the interval, else twice.

        sigma: of all images, or of each, (B, 1, 1, 1), which isn't looked at here. The further inputs of the model must
        have classes.
        """
        if not isinstance(sigma, Tensor) and not self.low < sigma <= self.high:
            return model, 1

        def guided(x: Tensor, each: Tensor, cond: Cond) -> Tensor:
            if "classes" not in cond:
                raise NcsnxError("guidance needs a model that is conditional on classes")
            without = {**cond, "classes": torch.full_like(cond["classes"], NO_CLASS)}
            both = {name: torch.cat([cond[name], without[name]]) for name in cond}
            with_class, without_class = model(torch.cat([x, x]), torch.cat([each, each]), both).chunk(2)
            # σ s = (D − x)/σ is combined as D is
            combined = without_class + self.weight * (with_class - without_class)
            if not isinstance(sigma, Tensor):
                return combined
            return torch.where((self.low < sigma) & (sigma <= self.high), combined, with_class)

        return guided, 2
