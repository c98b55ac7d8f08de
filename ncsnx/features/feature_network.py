"""Feature networks, which map images to vectors with meaningful distances: the contract and the names.

A score is a distance between features, so it has a meaning only together with the network that computed them. `facts`
identifies that network, down to the sha256 of its weights.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import attrs
from torch import Tensor

INCEPTION = "Inception"
"""The name of the features that FID, KID and the Inception score are defined by."""


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


def name_with(features: str, title: str, of_inception: str) -> str:
    """`of_inception` for Inception's features, such as 'FID'; else one like 'FD (digits classifier 1a2b3c4d)'."""
    return of_inception if features == INCEPTION else f"{title} ({features})"


def distance_name(features: str) -> str:
    """Name of the Fréchet distance in these features: 'FID' for Inception's."""
    return name_with(features, "FD", "FID")


def unnamed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts without the name, which may contain a path: a protocol must not change when a folder is moved."""
    return {key: value for key, value in facts.items() if key != "name"}
