"""What a feature network is: it turns images into vectors whose distances mean something.

A score is a distance between features, so it means something only together with the network that made them: `facts`
identifies it, down to the sha256 of its weights.
"""

from typing import Any, Protocol

import attrs
from torch import Tensor


@attrs.frozen(eq=False)
class Extracted:
    """What a feature network sees in B images."""

    features: Tensor
    """(B, D) float32, on the CPU."""
    logits: Tensor | None
    """(B, K) float32, on the CPU; None where the network gives none."""


class FeatureNetwork(Protocol):
    """Turns images into features, the same for an image in any batch (up to rounding)."""

    @property
    def name(self) -> str:
        """For people: 'Inception', 'classifier on digits', 'TorchScript net.pt'; no part of what identifies it."""

    @property
    def dimensions(self) -> int:
        """D, the length of a feature vector."""

    @property
    def has_logits(self) -> bool:
        """Whether there are logits, as the Inception score needs."""

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that identifies the network in protocols: type, sha256 of the weights, dimensions, resizing …"""

    def __call__(self, images: Tensor) -> Extracted:
        """Features of (B, C, H, W) uint8 on any device. Raises NcsnxError for images that it can't take."""
