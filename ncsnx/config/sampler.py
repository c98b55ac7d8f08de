"""Samplers as configuration. The algorithms are in `ncsnx.sampling`."""

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant


@attrs.frozen(kw_only=True)
class Sampler(Config):
    """A way from noise to images along the scores of the network."""


@variant(Sampler, "ald")
@attrs.frozen(kw_only=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics (Song & Ermon 2020, algorithm 1).

    L · steps_per_level evaluations, and one more to denoise.
    """

    step_size: float = attrs.field(validator=checks.positive)
    """ε: the step at level i is α = ε·(σ_i/σ_L)². Technique 4 chooses it."""
    steps_per_level: int = attrs.field(validator=checks.between(1, 1_000_000))
    """T."""
    denoise: bool = True
    """End with x + σ_L² s(x, σ_L)."""
    data_init: bool = False
    """Start from training images + σ_1 z instead of uniform noise."""
