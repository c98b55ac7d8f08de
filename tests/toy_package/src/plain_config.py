"""Configuration of a plain convolutional score network."""

import attrs

from ncsnx.config import Model, variant


@variant(Model, "plain")
@attrs.frozen(kw_only=True)
class Plain(Model):
    """Three convolutions, for tests."""

    width: int = 16
    """Channels of the hidden layers."""
