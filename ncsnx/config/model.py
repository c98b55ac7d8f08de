"""Configuration of score networks, which `ncsnx.networks` builds."""

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
