"""Names of features and distances, unique to the feature network."""

from collections.abc import Mapping
from typing import Any

INCEPTION = "Inception"
"""The name of the features that FID, KID and the Inception score are defined by."""


def name_with(features: str, title: str, of_inception: str) -> str:
    """`of_inception` for Inception's features, such as 'FID'; else one like 'FD (digits classifier 1a2b3c4d)'."""
    return of_inception if features == INCEPTION else f"{title} ({features})"


def distance_name(features: str) -> str:
    """Name of the Fréchet distance in these features: 'FID' for Inception's."""
    return name_with(features, "FD", "FID")


def features_of(distance: str) -> str:
    """The features in a name made by `distance_name`; any other name unchanged."""
    if distance.startswith("FD (") and distance.endswith(")"):
        return distance[len("FD (") : -1]
    return INCEPTION if distance == "FID" else distance


def unnamed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts without the name, which may contain a path: a protocol must not change when a folder is moved."""
    return {key: value for key, value in facts.items() if key != "name"}
