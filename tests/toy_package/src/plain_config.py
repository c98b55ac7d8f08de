"""A plain convolutional score network, as configuration."""

import attrs

from ncsnx.config import Model, variant


@variant(Model, "plain")
@attrs.frozen(kw_only=True)
class Plain(Model):
    """Three convolutions; for trying things out."""

    width: int = 16
