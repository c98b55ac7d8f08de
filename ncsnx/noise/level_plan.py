"""Noise levels and Langevin steps that follow from σ_1 and the size of an image."""

import attrs

from ncsnx.noise import techniques


@attrs.frozen(kw_only=True)
class NoisePlan:
    """What techniques 2 and 4 of Song & Ermon 2020 (arXiv 2006.09011) make of σ_1."""

    dimensions: int
    """D: pixels times channels."""
    sigma_max: float
    """σ_1."""
    sigma_min: float
    """σ_L."""
    overlap: float
    """C."""
    ratio: float
    """γ of technique 2."""
    levels: int
    """L."""
    steps_per_level: int
    """T."""
    step_size: float
    """ε, best for L levels that end exactly at σ_1 and σ_L, and for T."""

    @property
    def evaluations(self) -> int:
        """Of the network for an image: T at every level, and one to denoise."""
        return self.levels * self.steps_per_level + 1

    @property
    def snr(self) -> float:
        """The signal-to-noise ratio of a step, as score SDEs count it."""
        return techniques.signal_to_noise(self.step_size, self.sigma_min)

    @property
    def remaining_variance(self) -> float:
        """How close ε comes to 1, the aim of technique 4."""
        ratio = techniques.spaced_ratio(self.sigma_max, self.sigma_min, self.levels)
        return techniques.remaining_variance(self.step_size, self.sigma_min, ratio, self.steps_per_level)


def plan_noise(
    dimensions: int,
    sigma_max: float,
    *,
    sigma_min: float = 0.01,
    overlap: float = techniques.OVERLAP,
    steps_per_level: int | None = None,
) -> NoisePlan:
    """The plan for images of `dimensions` numbers whose largest distance is σ_1.

    steps_per_level: T; by default as many as `techniques.affordable_steps` says. Raises NcsnxError where σ_1 isn't
    above σ_L, and where no ratio has that overlap.
    """
    ratio = techniques.level_ratio(dimensions, overlap)
    levels = techniques.number_of_levels(sigma_max, sigma_min, ratio)
    steps = steps_per_level or techniques.affordable_steps(levels)
    spaced = techniques.spaced_ratio(sigma_max, sigma_min, levels)
    return NoisePlan(
        dimensions=dimensions,
        sigma_max=sigma_max,
        sigma_min=sigma_min,
        overlap=overlap,
        ratio=ratio,
        levels=levels,
        steps_per_level=steps,
        step_size=techniques.best_step_size(sigma_min, spaced, steps),
    )
