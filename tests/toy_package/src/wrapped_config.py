"""Configuration of an existing module as a score network."""

import attrs

from ncsnx.config import Model, variant


@variant(Model, "wrapped")
@attrs.frozen(kw_only=True)
class Wrapped(Model):
    """A predictor of the noise from another project."""

    width: int = 16
    """Channels of the hidden layer."""
