"""What a score is called: by what it measures and by its features, so that no two kinds share a name."""

INCEPTION = "Inception"
"""The name of the features that FID, KID and the Inception score are defined by."""


def distance_name(features: str) -> str:
    """The Fréchet distance: 'FID' with Inception's features, else such as 'FD (classifier on digits)'."""
    return "FID" if features == INCEPTION else f"FD ({features})"


def features_of(distance: str) -> str:
    """The features by which `distance_name` made this name; any other name as it is."""
    if distance.startswith("FD (") and distance.endswith(")"):
        return distance[len("FD (") : -1]
    return INCEPTION if distance == "FID" else distance


def kernel_distance_name(features: str) -> str:
    """The kernel distance: 'KID' with Inception's features."""
    return "KID" if features == INCEPTION else f"KD ({features})"


def inception_score_name(features: str) -> str:
    """exp of the mutual information of image and class: 'IS' with Inception's classes."""
    return "IS" if features == INCEPTION else f"class score ({features})"
