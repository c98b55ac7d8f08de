"""The share of the Fréchet distance that comes from the means alone."""

from ncsnx.metrics.metric import FeatureSets, Quantity, metric


@metric("mean-shift", Quantity("mean_shift", "mean shift", better="lower"))
def mean_shift(sets: FeatureSets) -> dict[str, float | None]:
    """|μ₁ − μ₂|², the squared distance of the means of the features."""
    difference = sets.features.double().mean(dim=0) - sets.mean
    return {"mean_shift": float(difference @ difference)}
