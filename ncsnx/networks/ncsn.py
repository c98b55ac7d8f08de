"""NCSN: networks whose normalizations are conditional on the noise level (Song & Ermon 2019, arXiv 1907.05600)."""

import math
from functools import partial

import torch
from torch import Tensor

from ncsnx.config.model import ConditionalModel
from ncsnx.errors import NcsnxError
from ncsnx.networks.activations import ACTIVATIONS
from ncsnx.networks.blocks import Recipe, mean_pool
from ncsnx.networks.convolution import Convolution, SpectralConvolution
from ncsnx.networks.layouts import DEEPER, NCSNV2
from ncsnx.networks.normalization import conditional
from ncsnx.networks.score import Facts, ScoreNetwork

_SIGMA_TOLERANCE = 1e-6  # relative: a level that went through float32 is still that level


class NCSNNetwork(ScoreNetwork):
    """Four stages. It knows the levels that it was trained at, and no σ between them."""

    layout = NCSNV2

    def __init__(self, model: ConditionalModel, facts: Facts) -> None:
        normalization = partial(conditional, model.normalization, levels=len(facts.sigmas))
        recipe = Recipe(
            activation=ACTIVATIONS[model.activation],
            convolution=SpectralConvolution if model.spectral_norm else Convolution,
            normalization=normalization,
            refine_normalization=normalization,
            context_pool=mean_pool,
        )
        super().__init__(recipe, normalization(model.width), model.width, facts)

    def scaled_score(self, x: Tensor, levels: Tensor) -> Tensor:
        return self.output(x, levels) * self.sigmas[levels].view(-1, 1, 1, 1)

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """As in `ScoreNetwork`; NcsnxError for a σ that isn't one of the trained levels (to 1e-6)."""
        levels = torch.full((x.shape[0],), self._level(sigma), device=x.device)
        return self.output(x, levels)

    def _level(self, sigma: float) -> int:
        for level, known in enumerate(self.noise_levels):
            if math.isclose(sigma, known, rel_tol=_SIGMA_TOLERANCE):
                return level
        raise NcsnxError(
            f"{type(self).__name__} is conditional on the levels that it was trained at: {len(self.noise_levels)} "
            f"from {self.noise_levels[0]:g} to {self.noise_levels[-1]:g}; σ = {sigma:g} isn't one of them. Keep "
            "to those, by sampler=ald, or by sampler.grid=levels with another sampler than ode and no churn; or train "
            "one of the NCSNv2 models, which take any σ"
        )


class NCSNDeeperNetwork(NCSNNetwork):
    """Five stages."""

    layout = DEEPER
