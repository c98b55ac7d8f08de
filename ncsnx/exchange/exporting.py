"""Exports a checkpoint as a portable folder: weights, model card, and a grid of samples.

The scores on the card are the recorded ones of these weights, found by their sha256, with their protocols.
"""

from pathlib import Path

import attrs
import torch

from ncsnx.config.codec import identity
from ncsnx.config.pretrained import Declared
from ncsnx.errors import Hint, NcsnxError
from ncsnx.exchange.card import CardScore, Picture, ScoreValue, card
from ncsnx.exports.exported import Export, ExportConfig, export_config, write_export
from ncsnx.images import arranged, grid, png_bytes, to_uint8
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, Series
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.model import Model
from ncsnx.sampling.request import SampleRequest
from ncsnx.spelling import argument
from ncsnx.work import SILENT, Work

_SEED = 0
"""Seed of the samples in the picture: fixed, so that they are uncurated."""
_BATCH_SIZE = 64


@attrs.frozen
class Exported:
    """A written export."""

    export: Export
    config: ExportConfig
    scores: tuple[CardScore, ...]


def draw_samples(model: Model, count: int, data: Path | None = None, work: Work = SILENT) -> Picture | None:
    """Draws samples for the card; None for a count of 0. Raises NcsnxError.

    data: the data folder, for samplers that start from training images.
    """
    if count == 0:
        return None
    request = SampleRequest(n=count, seed=_SEED, batch_size=_BATCH_SIZE)
    drawing = Drawing(model=model, request=request, data=data)
    try:
        with work.progress("sampling", total=drawing.states(), unit="sampler steps") as advance:
            batches = drawing.batches(check_stop=work.check_stop, on_state=lambda batch, state: advance())
            window = model.space.pictures
            images = torch.cat([to_uint8(window.picture(drawn)).cpu() for _, drawn in batches])
    except NcsnxError as error:
        hints = [hint for hint in error.hints if not hint.adds.startswith("sampler.")]  # an export takes no overrides
        raise NcsnxError(
            error.message, *hints, Hint("or export without a picture", adds=argument("grid", 0))
        ) from error
    png = png_bytes(grid(*arranged(images, len(model.spec().classes))))
    return Picture(images=count, seed=_SEED, png=png, precision=model.precision_in_words)


def export_checkpoint(
    run: Run,
    model: Model,
    out: Path,
    *,
    license: str | None = None,
    picture: Picture | None = None,
    half: bool = False,
    work: Work = SILENT,
) -> Exported:
    """Writes the folder `out` atomically. model: that of a checkpoint of the run. license: identifier on the Hub;
    None: that of the weights' source, if known. half: round float32 weights to float16.

    Unreadable scores of the run are left out with a warning. Raises NcsnxError, UsageError.
    """
    saved = model.checkpoint
    recorded = recorded_scores(run, saved.declared, saved.step, saved.weights_sha256)
    for line in recorded.unreadable:
        work.warning(line)
    content = model.to_safetensors(half=half)
    is_foreign = saved.imported is not None and saved.imported.step == saved.step and not saved.imported.is_start
    config = export_config(
        saved.declared,
        model.space,
        run=run.name,
        step=saved.step,
        weights=saved.weights,
        checkpoint_sha256=saved.weights_sha256,
        model=content,
        # the run's data isn't the data of imported weights, even if the run was trained further
        data_fingerprint=None if is_foreign else run.data_fingerprint(),
        license=license or saved.license,
        half=half,
    )
    text = card(
        config,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        evaluations=model.evaluations_in_words,
        scores=recorded.scores,
        picture=picture,
        imported=saved.imported,
    )
    export = write_export(out, config, content, text, None if picture is None else picture.png)
    return Exported(export, config, recorded.scores)


_ORDER = ("fid", "likelihood", "loss")
"""Order of the measures on a card."""


@attrs.frozen
class Recorded:
    """The recorded scores of a checkpoint."""

    scores: tuple[CardScore, ...]
    """Scores sorted by measure, then by number of images, the most first."""
    unreadable: tuple[str, ...]
    """A line about measurements that can't be read."""


def recorded_scores(run: Run, declared: Declared, step: int, weights_sha256: str) -> Recorded:
    """Results of `ncsnx fid`, `likelihood` and `loss` for these weights and this identity.

    Scores of ensembles are left out, since they belong to no single checkpoint.
    """
    wanted, errors = (step, weights_sha256, identity(declared)), list[str]()
    ledger = Ledger(run)
    try:
        ledger.reload()
    except NcsnxError as error:
        errors.append(str(error))
    ledger.warn(errors.append)
    found = [
        one.without_folders()
        for one in ledger.singles(*_ORDER)
        if (one.subject.step, one.subject.weights_sha256, one.subject.identity) == wanted and not one.subject.members
    ]
    found.sort(key=lambda one: (_ORDER.index(one.protocol.measure), -int(one.protocol.facts.get("n", 0))))
    return Recorded(tuple(map(_score, found)), tuple(errors))


def _score(one: Series) -> CardScore:
    (entry,), protocol = one.entries, one.protocol
    measured = [
        ScoreValue(column.title, number, column.error_in(entry.values), column.identifier)
        for column in protocol.columns
        if column.identifier is not None and (number := column.value_in(entry.values)) is not None
    ]
    if (perfect := protocol.perfect_model) is not None:
        title = f"{protocol.metric} of a perfect model ({perfect['words']})"
        measured.insert(1, ScoreValue(title, perfect["score"], perfect["spread"]))
    return CardScore(tuple(measured), one.caption, one.facts | {"evaluations": entry.values.get("evaluations")})
