"""Images of a model, drawn from a seed for a measurement."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ncsnx.data.transforms import window_of
from ncsnx.images import to_uint8
from ncsnx.samplers.state import Score, State
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.generate import EvaluationCounter
from ncsnx.sampling.score_model import ScoreModel
from ncsnx.work import Advance, Work


def drawn_pixels(
    drawing: Drawing, indices: Sequence[int], work: Work, advance: Advance, score: Score | None = None
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yields (indices of a batch (B,) int64, its pixels (B, C, H, W) uint8 on the CPU, evaluations per image).

    Image i is the one that `ncsnx sample` draws. advance: told of every sampler state. score: default: the model's.
    Raises NcsnxError.
    """
    evaluations, window = EvaluationCounter(), window_of(drawing.model.experiment.data)

    def on_state(batch: Sequence[int], state: State) -> None:
        evaluations(batch, state)
        advance()

    for batch, images in drawing.batches(indices, score=score, check_stop=work.check_stop, on_state=on_state):
        yield torch.tensor(batch, dtype=torch.int64), to_uint8(window(images)).cpu(), evaluations.of(batch)


def mean_score(models: Sequence[ScoreModel]) -> Score:
    """The mean score of several models, as the published code averages checkpoints; for one model, its own score."""
    if len(models) == 1:
        return models[0].score
    return lambda x, sigma: torch.stack([model.score(x, sigma) for model in models]).mean(dim=0)
