"""Configuration of the noise levels σ_1 > … > σ_L. Their values are computed in `ncsnx.noise`."""

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant


@attrs.frozen(kw_only=True)
class Schedule(Config):
    """L noise levels from `sigma_max` down to `sigma_min`, as standard deviations of pixels in [0, 1]."""

    sigma_max: float = attrs.field(validator=checks.positive)
    """σ_1, the largest noise level: a standard deviation in the range of the network (see `data.transform`), above
    `sigma_min`. Technique 1 sets it to the largest Euclidean distance between two training images."""
    sigma_min: float = attrs.field(default=0.01, validator=checks.positive)
    """σ_L > 0, the smallest noise level, in the units of `sigma_max`."""
    levels: int = attrs.field(validator=checks.between(2, 1_000_000))
    """L, the number of noise levels, 2 to 1,000,000. Technique 2 computes it from σ_1, σ_L and the dimension."""

    @levels.validator
    def _descending(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        bounds = (self.sigma_max, self.sigma_min)
        if all(isinstance(bound, int | float) for bound in bounds) and not bounds[0] > bounds[1]:
            raise checks.FieldError(
                "sigma_max", f"must be above sigma_min={self.sigma_min!r}, which {self.sigma_max!r} is not"
            )


@variant(Schedule, "geometric")
@attrs.frozen(kw_only=True)
class Geometric(Schedule):
    """Noise levels with a constant ratio."""


@variant(Schedule, "uniform")
@attrs.frozen(kw_only=True)
class Uniform(Schedule):
    """Noise levels with a constant difference."""
