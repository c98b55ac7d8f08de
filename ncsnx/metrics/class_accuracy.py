"""The share of generated images that a classifier takes for the class that was asked for."""

from ncsnx.features.moments import usable
from ncsnx.metrics.metric import FeatureSets, Quantity, metric

CLASS_ACCURACY = Quantity("class_accuracy", "class accuracy", is_share=True, better="higher")


@metric("class-accuracy", CLASS_ACCURACY, needs=("logits", "classes"), on_request=False)
def class_accuracy(sets: FeatureSets) -> dict[str, float | None]:
    """The share of the generated images whose largest logit is that of their class, 0 to 1."""
    assert sets.logits is not None
    assert sets.classes is not None
    predicted = usable(sets.logits).argmax(dim=1)
    return {"class_accuracy": float((predicted == sets.classes).double().mean())}
