"""A checkpoint as a folder to pass on: its weights, with their scores, a card and a picture of samples."""

import math
from pathlib import Path

import attrs
import torch

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.engine.estimate import seconds_per_image
from ncsnx.exchange.card import UNKNOWN_LICENSE, CardScore, Picture, card
from ncsnx.exchange.recorded_scores import recorded_scores
from ncsnx.images import grid, png_bytes, square_columns, to_uint8
from ncsnx.quantities import counted, duration
from ncsnx.runs.exported import Export, ExportConfig, export_config, write_export
from ncsnx.runs.folder import Run
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.sample import draw
from ncsnx.sampling.score_model import SavedWeights, ScoreModel
from ncsnx.spelling import argument
from ncsnx.work import SILENT, Work

SAMPLES = 16
"""In the picture, where nothing else is said."""
_SEED = 0
"""Of the samples in the picture: fixed, so that nobody chose them."""
_BATCH_SIZE = 64
_LONG_S = 10 * 60.0
"""A picture that takes longer is drawn on request only."""
_SLOW_S = 1.0
"""An evaluation of one image that takes longer isn't dominated by what batches share."""


@attrs.frozen
class Samples:
    """A picture for the card: a PNG with the first samples of a fixed seed."""

    count: int
    png: bytes


@attrs.frozen
class Exported:
    """What was written."""

    export: Export
    config: ExportConfig
    scores: tuple[CardScore, ...]


def affordable_samples(model: ScoreModel, work: Work = SILENT) -> int:
    """How many samples the picture has by default, by evaluations that are timed now: none where they take long."""
    one = seconds_per_image(model, 1)
    each = one if one > _SLOW_S else seconds_per_image(model, SAMPLES)
    seconds = each * model.expected_evaluations * SAMPLES
    if seconds <= _LONG_S:
        return SAMPLES
    work.warning(
        f"no picture: {counted(SAMPLES, 'sample')} take about {duration(seconds)} on {model.runtime.device}; "
        f"{argument('count', SAMPLES)} draws them all the same, {argument('count', 4)} fewer"
    )
    return 0


def draw_samples(model: ScoreModel, count: int, data: Path | None = None, work: Work = SILENT) -> Samples | None:
    """The picture; None for a count of 0. data: the data folder, for samplers that start from training images.

    Raises NcsnxError.
    """
    if count == 0:
        return None
    request = SampleRequest(n=count, seed=_SEED, batch_size=_BATCH_SIZE)
    states = math.ceil(count / _BATCH_SIZE) * model.states
    try:
        with work.progress("sampling", total=states, unit="states") as advance:
            batches = draw(
                model,
                request,
                range(count),
                data=data,
                check_stop=work.check_stop,
                on_state=lambda batch, state: advance(1),
            )
            images = torch.cat([to_uint8(drawn).cpu() for _, drawn in batches])
    except NcsnxError as error:
        raise NcsnxError(f"{error}; {argument('count', 0)} exports without a picture") from error
    return Samples(count, png_bytes(grid(images, square_columns(count))))


def export_checkpoint(
    run: Run,
    saved: SavedWeights,
    model: ScoreModel,
    out: Path,
    *,
    license: str = UNKNOWN_LICENSE,
    samples: Samples | None = None,
    work: Work = SILENT,
) -> Exported:
    """Writes the folder `out`, whole or not at all. model: the network of `saved`. license: as the Hub names it.

    Scores of the run that can't be read are left out with a warning. Raises NcsnxError, UsageError.
    """
    recorded = recorded_scores(run, saved.experiment, saved.step, saved.sha256)
    for line in recorded.unreadable:
        work.warning(f"scores that are left out: {line}")
    content = saved.to_safetensors()
    is_foreign = saved.imported is not None and saved.imported.step == saved.step
    config = export_config(
        saved.experiment,
        run=run.name,
        step=saved.step,
        weights=saved.weights,
        checkpoint_sha256=saved.sha256,
        model=content,
        # what an imported run is trained on later isn't what these weights were
        data_fingerprint=None if is_foreign else run.data_fingerprint(),
    )
    text = card(
        config,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        evaluations=model.evaluations_in_words,
        license=license,
        scores=recorded.scores,
        picture=None if samples is None else Picture(images=samples.count, seed=_SEED),
        imported=saved.imported,
    )
    export = write_export(out, config, content, text, None if samples is None else samples.png)
    return Exported(export, config, recorded.scores)
