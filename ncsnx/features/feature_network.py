"""The contract of feature networks, which map images to vectors with meaningful distances.

A score is a distance between features, so it has a meaning only together with the network that computed them. `facts`
identifies that network, down to the sha256 of its weights.
"""

from typing import Any, Protocol

import attrs
from torch import Tensor


@attrs.frozen(eq=False)
class Extracted:
    """Output of a feature network for B images."""

    features: Tensor
    """(B, D) float32, on the CPU."""
    logits: Tensor | None
    """(B, K) float32, on the CPU; None for a network without logits."""


class FeatureNetwork(Protocol):
    """Maps images to features that don't depend on the batch (up to rounding)."""

    @property
    def name(self) -> str:
        """Name that no other network has, since it ends in the beginning of the weights' sha256: 'digits classifier
        1a2b3c4d', 'TorchScript net.pt 1a2b3c4d'. Only Inception's published weights are named 'Inception'."""

    @property
    def dimensions(self) -> int:
        """D, the length of a feature vector."""

    @property
    def has_logits(self) -> bool:
        """Whether it gives logits, which the Inception score needs."""

    @property
    def facts(self) -> dict[str, Any]:
        """JSON that identifies the network in protocols: type, sha256 of the weights, dimensions, resizing …"""

    def __call__(self, images: Tensor) -> Extracted:
        """Features of (B, C, H, W) uint8 images on any device. Raises NcsnxError for images that it doesn't accept."""
