"""Configuration of feature networks, which scores compare images by. `ncsnx.features` loads them.

No experiment and no run contains one, so no saved file can name code to execute: a TorchScript file is loaded only if
it is named on the command line.
"""

from typing import ClassVar

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant


@attrs.frozen(kw_only=True)
class Features(Config):
    """A network that maps images to feature vectors and optionally to logits."""

    typed: ClassVar[str] = "file"
    """Field that the word behind the colon means, as in torchscript:FILE."""


@variant(Features, "inception")
@attrs.frozen(kw_only=True)
class Inception(Features):
    """The Inception network of 2015-12-05 as TorchScript, with clean-fid's resizing (Parmar et al. 2022); for FID."""

    file: str | None = attrs.field(default=None, validator=checks.one_line)
    """Local copy of inception-2015-12-05.pt. Loading it executes code: name only a file that you trust. None: the
    network is downloaded once, into the cache folder."""


@variant(Features, "torchscript")
@attrs.frozen(kw_only=True)
class TorchScript(Features):
    """Your own feature network, in a TorchScript file."""

    file: str = attrs.field(validator=checks.one_line)
    """The TorchScript file. Loading it executes code: name only a file that you trust."""
    image_size: int | None = attrs.field(default=299, validator=checks.between(1, 16_384))
    """Side in pixels, 1 to 16,384, that clean-fid's resizer brings images to. None: images keep their size."""


@variant(Features, "classifier")
@attrs.frozen(kw_only=True)
class Classifier(Features):
    """A small convolutional classifier that is trained once on the classes of the run's own data set."""

    width: int = attrs.field(default=32, validator=checks.between(1, 1_024))
    """Channels of the first stage, 1 to 1,024; the later stages have twice as many."""
    steps: int = attrs.field(default=600, validator=checks.between(1, 1_000_000))
    """Optimizer steps of its training, 1 to 1,000,000."""
    seed: int = attrs.field(default=0, validator=checks.between(0, 2**32 - 1))
    """Seed of its training, 0 to 4,294,967,295."""


@variant(Features, "timm")
@attrs.frozen(kw_only=True)
class Timm(Features):
    """A network of the package timm without its last layer, as timm:NAME."""

    typed: ClassVar[str] = "network"

    network: str = attrs.field(validator=checks.short_ascii)
    """Name of the network in timm, such as resnet50.a1_in1k."""
    image_size: int | None = attrs.field(default=None, validator=checks.between(1, 16_384))
    """Side in pixels that a vision transformer is made for, 1 to 16,384. None: that of its training."""
    file: str | None = attrs.field(default=None, validator=checks.one_line)
    """File of the weights by timm's names, safetensors or of torch. None: the weights that timm downloads."""

    @property
    def title(self) -> str:
        """Name of the features."""
        return self.network


@variant(Features, "dinov2")
@attrs.frozen(kw_only=True)
class DINOv2(Timm):
    """DINOv2 ViT-L/14 at 224 px, by timm: the features of FD-DINOv2 (Stein et al. 2023, arXiv 2306.04675)."""

    typed: ClassVar[str] = "file"

    network: str = attrs.field(default="vit_large_patch14_dinov2.lvd142m", validator=checks.short_ascii)
    """Name of the network in timm."""
    image_size: int | None = attrs.field(default=224, validator=checks.between(1, 16_384))
    """Side in pixels that images are resized to, a multiple of 14."""

    @property
    def title(self) -> str:
        return "DINOv2"
