"""The Inception Score (Salimans et al. 2016, arXiv 1606.03498, section 4): exp E KL(p(y|x) ‖ p(y))."""

import torch
from torch import Tensor

from ncsnx.features.moments import require_images, usable
from ncsnx.metrics.metric import FeatureSets, Quantity, metric
from ncsnx.quantities import counted

INCEPTION_SCORE = Quantity(
    "inception_score",
    "class score",
    of_inception="IS",
    error="inception_score_spread",
    plus_minus="standard deviation over ten parts of the images",
    better="higher",
)


@metric("inception-score", INCEPTION_SCORE, needs=("logits",))
def class_score(sets: FeatureSets) -> dict[str, float | None]:
    """The Inception Score of the generated images, and its standard deviation over ten parts of them."""
    assert sets.logits is not None
    return inception_score(sets.logits)


def inception_score(logits: Tensor, splits: int = 10) -> dict[str, float | None]:
    """The Inception Score of (n, K) logits, split in order into `splits` parts whose sizes differ by at most one.

    It goes from 1, for equal predictions for all images, to the number of classes; the mean over the splits, with their
    standard deviation (biased, dividing by their number, as published; None for a single split). The score of few
    images is too small (1 for a single image), so it depends on n / splits. Raises NcsnxError for
    fewer images than splits, NaN or infinity.
    """
    rows = usable(logits)
    require_images(len(rows), splits, f"an Inception Score over {counted(splits, 'split')}")
    scores = torch.stack([_score(part.double()) for part in rows.tensor_split(splits)])
    spread = scores.std(correction=0).item() if splits > 1 else None
    return {"inception_score": scores.mean().item(), "inception_score_spread": spread}


def _score(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(dim=1)
    log_marginal = log_p.logsumexp(dim=0) - torch.tensor(len(logits), dtype=log_p.dtype).log()
    return (log_p.exp() * (log_p - log_marginal)).sum(dim=1).mean().exp()
