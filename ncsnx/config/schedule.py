"""Configuration of the noise levels that networks are trained at; `ncsnx.schedules.levels` computes them."""

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant
from ncsnx.quantities import counted


@attrs.frozen(kw_only=True)
class Schedule(Config):
    """L noise levels from `sigma_max` down to `sigma_min`, as standard deviations in the range of the network."""

    sigma_max: float = attrs.field(validator=checks.positive)
    """σ_1, the largest noise level: a standard deviation in the range of the network (see `data.transform`), above
    `sigma_min`. Technique 1 sets it to the largest Euclidean distance between two training images."""
    sigma_min: float = attrs.field(default=0.01, validator=checks.positive)
    """σ_L > 0, the smallest noise level, in the units of `sigma_max`."""
    levels: int = attrs.field(validator=checks.between(2, 1_000_000))
    """L, the number of noise levels, 2 to 1,000,000. Technique 2 computes it from σ_1, σ_L and the dimension."""

    @property
    def in_words(self) -> str:
        """The noise that a network is trained with."""
        return f"σ {self.sigma_max:g} → {self.sigma_min:g} in {counted(self.levels, 'level')}"

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


@variant(Schedule, "lognormal")
@attrs.frozen(kw_only=True)
class LogNormal(Geometric):
    """σ drawn from a log-normal distribution in training (Karras et al. 2022, arXiv 2206.00364, table 1).

    The geometric levels from `sigma_max` to `sigma_min` are those that samplers use and held-out losses are measured
    at. With `data.noise`, σ is the noise that is added to that of the data.
    """

    p_mean: float = attrs.field(default=-1.2, validator=checks.finite)
    """P_mean, the mean of ln σ in training, in the units of `sigma_max`. The default is for images in [−1, 1]; for
    those in [0, 1], −1.9 does the same."""
    p_std: float = attrs.field(default=1.2, validator=checks.positive)
    """P_std > 0, the standard deviation of ln σ in training."""

    @property
    def in_words(self) -> str:
        return f"ln σ ~ N({self.p_mean:g}, {self.p_std:g}²); held-out losses and samples at {super().in_words}"


@variant(Schedule, "uniform")
@attrs.frozen(kw_only=True)
class Uniform(Schedule):
    """Noise levels with a constant difference."""


@variant(Schedule, "listed")
@attrs.frozen(kw_only=True)
class Listed(Schedule):
    """Noise levels one by one: those of a diffusion that was trained elsewhere."""

    sigmas: tuple[float, ...] = attrs.field(validator=checks.positive)
    """σ_1 > … > σ_L."""

    @sigmas.validator
    def _descends(self, attribute: "attrs.Attribute[tuple[float, ...]]", value: tuple[float, ...]) -> None:
        ends = (self.sigma_max, self.sigma_min, self.levels)
        if list(value) != sorted(set(value), reverse=True) or (*value[:1], *value[-1:], len(value)) != ends:
            raise checks.FieldError("sigmas", "must descend from sigma_max to sigma_min, in as many levels as `levels`")
