"""Configuration of score networks, which `ncsnx.networks` builds."""

from typing import ClassVar, Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import OUTSIDE_IDENTITY_AT_DEFAULT, Config, variant

Normalization = Literal["instance++", "instance", "variance", "batch", "none"]
Activation = Literal["elu", "relu", "leaky_relu", "swish"]


@attrs.frozen(kw_only=True)
class Model(Config):
    """A score network."""

    any_sigma: ClassVar[bool] = True
    """Whether the network accepts any noise level σ > 0 (True) or only its trained levels (False)."""
    uses_sigma_data: ClassVar[bool] = False
    """Whether the network depends on `data.sigma_data`."""
    takes_labels: ClassVar[bool] = False
    """Whether the network takes labels of augmented images in training."""

    @property
    def classes(self) -> int:
        """Number of classes that images are conditional on; 0: none."""
        return 0

    @property
    def class_dropout(self) -> float:
        """Share of training images whose class is withheld; 0: the network doesn't know images of no class."""
        return 0.0


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


@variant(Model, "unet")
@attrs.frozen(kw_only=True)
class UNet(Model):
    """A residual U-Net that is conditional on σ: DDPM++ (Song et al. 2021, arXiv 2011.13456, appendix H), with the
    preconditioning of Karras et al. 2022 (arXiv 2206.00364, table 1).

    Widths, blocks and attention are by default theirs for 32 px.
    """

    uses_sigma_data: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = True

    width: int = attrs.field(default=128, validator=checks.between(2, 16_384))
    """Channels of the first convolution and features of ln σ, an even number from 2 to 16,384."""
    multipliers: tuple[int, ...] = attrs.field(default=(2, 2, 2), validator=checks.between(1, 64))
    """Channels of each stage as a multiple of `width`, 1 to 64; each stage but the first halves height and width."""
    blocks: int = attrs.field(default=4, validator=checks.between(1, 64))
    """Residual blocks of a stage on the way down, 1 to 64; there is one more on the way up."""
    attention: tuple[int, ...] = attrs.field(default=(16,), validator=checks.between(1, 16_384))
    """Shorter sides, in pixels, of the stages whose blocks attend to the whole image, such as 16. With any, the middle
    block attends too. At 28 px and 3 stages, the sides are 28, 14 and 7."""
    embedding: Literal["positional", "fourier"] = "positional"
    """Features of ln σ: sines of 'positional' (Vaswani et al. 2017) or of random 'fourier' frequencies (Tancik et al.
    2020)."""
    preconditioning: Literal["edm", "none"] = attrs.field(default="edm", metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """How the network F gives the score: by the denoiser of Karras et al. 2022, 'edm', or, to compare with, 'none':
    s(x, σ) = F(x; ln σ)/σ, as in NCSN++ (Song et al. 2021)."""
    dropout: float = attrs.field(default=0.0, validator=checks.fraction, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Probability that a value before the second convolution of a block is set to 0 in training, at least 0 and below
    1 (Srivastava et al. 2014)."""

    normalization: Literal["group", "pixel"] = attrs.field(default="group", metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Normalization of groups of channels over the whole image, 'group' (Wu & He 2018, arXiv 1803.08494), or of the
    channels of each pixel, 'pixel' (Ba et al. 2016, arXiv 1607.06450). By pixel and without attention, a part of a
    picture is denoised as in the whole one, but for its margins, so that it can be restored in tiles."""

    classes: int = attrs.field(default=0, validator=checks.between(0, 100_000), metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Number of classes that images are conditional on, 0 to 100,000; 0: none."""
    class_dropout: float = attrs.field(default=0.1, validator=checks.fraction, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Share of training images whose class is withheld, so that the same weights know images of any class, at least 0
    and below 1 (Ho & Salimans 2022, arXiv 2207.12598)."""

    @width.validator
    def _is_even(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if checks.is_whole(value) and value % 2:
            raise checks.FieldError("width", f"must be even, which {value:,} is not")

    @multipliers.validator
    def _has_stages(self, attribute: "attrs.Attribute[tuple[int, ...]]", value: tuple[int, ...]) -> None:
        if not value:
            raise checks.FieldError("multipliers", "must have a number for each stage, at least one")


@variant(Model, "diffusers")
@attrs.frozen(kw_only=True)
class Diffusers(Model):
    """A `UNet2DModel` of the package diffusers, with all weights of a folder of it. `ncsnx import` fills this in."""

    unet: str = attrs.field(validator=checks.one_line)
    """Configuration of the network as JSON, with every default of the version of diffusers that read it."""
    prediction: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    """Quantity that it predicts: the noise ε, v of Salimans & Ho 2022 (arXiv 2202.00512), or the image."""
    classes: int = attrs.field(default=0, validator=checks.between(0, 100_000), metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Number of classes that images are conditional on (`num_class_embeds`), 0 to 100,000; 0: none."""


@variant(Model, "deepinv")
@attrs.frozen(kw_only=True)
class Deepinv(Model):
    """A denoiser of the package deepinv, of images in [0, 1]. `ncsnx import` fills this in."""

    denoiser: str = attrs.field(validator=checks.name)
    """Name of its class in `deepinv.models`, such as DRUNet."""
