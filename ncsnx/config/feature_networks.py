"""Feature networks as configuration: what a score sees of an image. What opens them is in `ncsnx.evaluation`.

No experiment and no run holds one of these, so no saved file can name code to be executed: a TorchScript file is loaded
only where a person names it on the command line.
"""

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant


@attrs.frozen(kw_only=True)
class Features(Config):
    """A network from images to feature vectors, and perhaps to logits."""


@variant(Features, "inception")
@attrs.frozen(kw_only=True)
class Inception(Features):
    """The Inception network of 2015-12-05 as TorchScript, with clean-fid's resizing (Parmar et al. 2022): for FID."""

    file: str | None = attrs.field(default=None, validator=checks.when_given(checks.one_line))
    """A local copy of inception-2015-12-05.pt, which runs code: name only a file that you trust. By default the
    network is downloaded once, into the cache folder."""


@variant(Features, "torchscript")
@attrs.frozen(kw_only=True)
class TorchScript(Features):
    """A network of one's own, in a TorchScript file. Loading one executes it: name only files that you trust."""

    file: str = attrs.field(validator=checks.one_line)
    image_size: int | None = attrs.field(default=299, validator=checks.when_given(checks.between(1, 16_384)))
    """Side that images are resized to by clean-fid's resizer, in pixels; none: the network gets them as they are."""


@variant(Features, "classifier")
@attrs.frozen(kw_only=True)
class Classifier(Features):
    """A small convolutional network that is trained once to tell the classes of the run's own data set."""

    width: int = attrs.field(default=32, validator=checks.between(1, 1_024))
    """Channels of the first convolutions; the later ones have twice as many."""
    steps: int = attrs.field(default=600, validator=checks.between(1, 1_000_000))
    """Optimizer steps."""
    seed: int = attrs.field(default=0, validator=checks.between(0, 2**32 - 1))
