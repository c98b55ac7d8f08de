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

    def at(self, model: ScaledScore, sigma: float | Tensor) -> ScaledScore:
        """The guided model at σ, which evaluates images twice inside the interval, and once outside.

        sigma: of all images, or of each, (B, 1, 1, 1). The further inputs of the model must have classes.
        """
        if isinstance(sigma, Tensor):
            inside = ((self.low < sigma) & (sigma <= self.high)).flatten()
            return lambda x, each, cond: self._guided(model, x, each, cond, inside)
        if self.low < sigma <= self.high:
            return lambda x, each, cond: self._guided(model, x, each, cond, slice(None))
        return model

    def _guided(self, model: ScaledScore, x: Tensor, sigma: Tensor, cond: Cond, rows: Tensor | slice) -> Tensor:
        """σ s of the images x, guided for some of them; σ s = (D − x)/σ is combined as D is."""
        if "classes" not in cond:
            raise NcsnxError("guidance needs a model that is conditional on classes")
        some = {name: one[rows] for name, one in cond.items()}
        without = {**some, "classes": torch.full_like(some["classes"], NO_CLASS)}
        both = {name: torch.cat([cond[name], without[name]]) for name in cond}
        scores = model(torch.cat([x, x[rows]]), torch.cat([sigma, sigma[rows]]), both)
        with_class, without_class = scores[: len(x)].clone(), scores[len(x) :]
        with_class[rows] = without_class + self.weight * (with_class[rows] - without_class)
        return with_class
