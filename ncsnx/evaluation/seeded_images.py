"""Images of a model, drawn from a seed for a measurement."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ncsnx.data.transforms import window_of
from ncsnx.images import to_uint8
from ncsnx.samplers.state import Score, State
from ncsnx.sampling.generate import EvaluationCounter
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.sample import draw
from ncsnx.sampling.score_model import ScoreModel
from ncsnx.work import Advance, Work


@attrs.frozen(eq=False)
class SeededImages:
    """The images of a request; image i is the one that `ncsnx sample` draws."""

    model: ScoreModel
    request: SampleRequest
    data: Path | None
    """The data folder, for samplers that start from training images."""
    score: Score | None = None
    """Default: the model's."""

    def batches(self, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Yields (indices of a batch (B,) int64, its pixels (B, C, H, W) uint8 on the CPU, evaluations per image).

        advance: told of every sampler state. Raises NcsnxError.
        """
        evaluations, window = EvaluationCounter(), window_of(self.model.experiment.data)

        def on_state(batch: Sequence[int], state: State) -> None:
            evaluations(batch, state)
            advance()

        for batch, images in draw(
            self.model,
            self.request,
            indices,
            score=self.score,
            data=self.data,
            check_stop=work.check_stop,
            on_state=on_state,
        ):
            pixels = to_uint8(window(images)).cpu()
            yield torch.tensor(batch, dtype=torch.int64), pixels, evaluations.of(batch)


def mean_score(models: Sequence[ScoreModel]) -> Score:
    """The mean score of several models, as the published code averages checkpoints; for one model, its own score."""
    if len(models) == 1:
        return models[0].score
    return lambda x, sigma: torch.stack([model.score(x, sigma) for model in models]).mean(dim=0)
