"""DPM-Solver++ (2S) as configuration."""

import attrs

from ncsnx.config import GridSampler, Sampler, checks, variant


@variant(Sampler, "dpmpp-2s")
@attrs.frozen(kw_only=True)
class DPMSolver2S(GridSampler):
    """DPM-Solver++ (2S): a second evaluation inside each step (Lu et al. 2022, algorithm 1)."""

    r: float = attrs.field(default=0.5, validator=checks.between(0.01, 1))
    """Position of the second evaluation within a step in ln σ, 0.01 to 1."""
