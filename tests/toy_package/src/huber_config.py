"""The Huber loss as configuration."""

import attrs

from ncsnx.config import Loss, checks, variant


@variant(Loss, "huber")
@attrs.frozen(kw_only=True)
class Huber(Loss):
    """Denoising score matching in which large errors count by their size, not by their square (Huber 1964)."""

    delta: float = attrs.field(default=1.0, validator=checks.positive)
    """Error of σ s from which on it counts by its size, > 0."""
