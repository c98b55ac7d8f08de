"""Configuration of score networks, which `ncsnx.networks` builds, and of their noise levels."""

from typing import ClassVar, Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant

Normalization = Literal["instance++", "instance", "variance", "batch", "none"]
Activation = Literal["elu", "relu", "leaky_relu", "swish"]


@attrs.frozen(kw_only=True)
class Model(Config):
    """A score network."""

    any_sigma: ClassVar[bool] = True
    """Whether the network accepts any noise level σ > 0 (True) or only its trained levels (False)."""


@attrs.frozen(kw_only=True)
class RefineNetModel(Model):
    """A RefineNet over dilated residual stages."""

    width: int = attrs.field(default=128, validator=checks.between(1, 16_384))
    """Channels of the first stage ('ngf'), 1 to 16,384; later stages have 2 or 4 times as many."""
    normalization: Normalization = "instance++"
    """Normalization layers: 'instance++' (Song & Ermon 2019), 'instance', 'variance', 'batch' or 'none'."""
    activation: Activation = "elu"
    """Activation function: 'elu', 'relu', 'leaky_relu' or 'swish'."""


@variant(Model, "ncsnv2")
@attrs.frozen(kw_only=True)
class NCSNv2(RefineNetModel):
    """The unconditional network for 32 and 64 px (Song & Ermon 2020): four stages, s(x, σ) = s(x)/σ."""


@variant(Model, "ncsnv2-deeper")
@attrs.frozen(kw_only=True)
class NCSNv2Deeper(RefineNetModel):
    """The unconditional network for 96 and 128 px: five stages."""


@variant(Model, "ncsnv2-deepest")
@attrs.frozen(kw_only=True)
class NCSNv2Deepest(RefineNetModel):
    """The unconditional network for 256 px: six stages."""


@attrs.frozen(kw_only=True)
class ConditionalModel(RefineNetModel):
    """A network whose normalizations have one row of parameters per noise level (Song & Ermon 2019)."""

    any_sigma: ClassVar[bool] = False

    spectral_norm: bool = False
    """Whether every convolution but the first and the last is spectrally normalized."""


@variant(Model, "ncsn")
@attrs.frozen(kw_only=True)
class NCSN(ConditionalModel):
    """The original network (Song & Ermon 2019): the stages of NCSNv2, conditional on the level."""


@variant(Model, "ncsn-deeper")
@attrs.frozen(kw_only=True)
class NCSNDeeper(ConditionalModel):
    """The stages of NCSNv2Deeper, conditional on the level."""


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
