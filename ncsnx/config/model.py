"""Configuration of score networks, which `ncsnx.networks` builds, and of their noise levels."""

from typing import ClassVar, Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import OUTSIDE_IDENTITY_AT_DEFAULT, Config, variant
from ncsnx.quantities import counted

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
    at.
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
