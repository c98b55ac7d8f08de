"""Plan of noise levels and Langevin steps for σ_1 and the size of an image."""

import attrs

from ncsnx.noise import techniques


@attrs.frozen(kw_only=True)
class NoisePlan:
    """Noise levels and Langevin steps by techniques 2 and 4 of Song & Ermon 2020 (arXiv 2006.09011)."""

    dimensions: int
    """D: pixels times channels."""
    sigma_max: float
    """σ_1: largest noise level."""
    sigma_min: float
    """σ_L: smallest noise level."""
    overlap: float
    """C: overlap of neighbouring levels (technique 2)."""
    ratio: float
    """γ: ratio of neighbouring levels with the overlap C."""
    levels: int
    """L: number of levels."""
    steps_per_level: int
    """T: Langevin steps per level."""
    step_size: float
    """ε: the best one (technique 4) for T steps at L geometric levels from σ_1 to σ_L."""

    @property
    def evaluations(self) -> int:
        """Network evaluations per image: T per level, and one to denoise."""
        return self.levels * self.steps_per_level + 1

    @property
    def remaining_variance(self) -> float:
        """Variance of the noise after a level's steps, in units of σ²; technique 4 aims at 1."""
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
    """The plan for images of `dimensions` values with the largest distance `sigma_max`.

    steps_per_level: T, by default `techniques.affordable_steps`. Raises NcsnxError unless σ_1 > σ_L, and if no ratio of
    levels has the overlap.
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
