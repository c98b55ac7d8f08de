"""What features and distances are called: by what they are of, so that no two kinds share a name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncsnx.features.feature_network import FeatureNetwork

INCEPTION = "Inception"
"""The name of the features that FID, KID and the Inception score are defined by."""


def name_with(features: str, title: str, of_inception: str) -> str:
    """`of_inception` with Inception's features, such as 'FID'; else such as 'FD (classifier on digits)'."""
    return of_inception if features == INCEPTION else f"{title} ({features})"


def distance_name(features: str) -> str:
    """Name of the Fréchet distance: 'FID' with Inception's features."""
    return name_with(features, "FD", "FID")


def features_of(distance: str) -> str:
    """The features by which `distance_name` made this name; any other name as it is."""
    if distance.startswith("FD (") and distance.endswith(")"):
        return distance[len("FD (") : -1]
    return INCEPTION if distance == "FID" else distance


def features_in_words(network: "FeatureNetwork") -> str:
    """A network with the beginning of its hash: 'classifier on digits (1a2b3c4d)'."""
    return f"{network.name} ({network.facts['sha256'][:8]})"


def unnamed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts without the name, which may hold a place: what was measured stays the same where a folder is moved."""
    return {key: value for key, value in facts.items() if key != "name"}
