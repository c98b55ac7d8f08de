"""What a distance is called: by what it measures and by its features, so that no two kinds share a name."""

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
