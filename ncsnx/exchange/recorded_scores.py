"""Recorded scores of one checkpoint, found by the sha256 of its weights, with their protocols."""

import re
from pathlib import Path

import attrs

from ncsnx.config.codec import identity
from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError
from ncsnx.exchange.card import CardScore, ScoreValue
from ncsnx.features.feature_network import INCEPTION, features_of
from ncsnx.metrics.metric import all_metrics
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row, ScoreFile, sweeps_in, value

_OF_INCEPTION = {"score": "fid", "kernel_distance": "kid"}
"""Identifiers on the Hub of scores that are defined by Inception's features, by key in a row."""
_IDENTIFIERS = {"score": "frechet_distance"}
"""Identifiers of other scores, where they aren't the key itself."""
_REFERENCE = re.compile(r"; reference: (?:folder|zip) (?P<path>.*) \([0-9a-f]{8}\); perfect model: ")
"""The part of a caption with the path of a folder or zip of real images."""
_ORDER = {"distance": 0, "likelihood": 1, "loss": 2}
"""Order of the measures on a card."""


@attrs.frozen
class Recorded:
    """The recorded scores of a checkpoint."""

    scores: tuple[CardScore, ...]
    """Scores sorted by measure, then by number of images, the most first."""
    unreadable: tuple[str, ...]
    """One error message per unreadable sweep."""


def recorded_scores(run: Run, experiment: Experiment, step: int, weights_sha256: str) -> Recorded:
    """Results of `ncsnx fid`, `likelihood` and `loss` for these weights and this experiment's identity.

    Scores of ensembles are left out, since they belong to no single checkpoint.
    """
    wanted = identity(experiment)
    found: list[tuple[tuple[int, int], CardScore]] = []
    errors: list[NcsnxError] = []
    for sweep in sweeps_in(run.fid, run.likelihood, run.loss, unreadable=errors.append):
        row = sweep.row(step, weights_sha256)
        if row is not None and sweep.protocol.get("identity") == wanted:
            place, images = _ORDER.get(str(sweep.protocol.get("measure")), 0), value(sweep.protocol, "n") or 0
            score = CardScore(measured_scores(sweep, row), without_folders(sweep.caption), sweep.protocol)
            found.append(((place, -int(images)), score))
    return Recorded(tuple(score for _, score in sorted(found, key=lambda pair: pair[0])), tuple(map(str, errors)))


def without_folders(caption: str) -> str:
    """The caption of a sweep with the name of the reference in place of its path, which may reveal private names."""
    found = _REFERENCE.search(caption)
    return caption if found is None else caption.replace(found["path"], Path(found["path"]).name)


def measured_scores(sweep: ScoreFile, row: Row) -> tuple[ScoreValue, ...]:
    """The named numbers of a row of a sweep."""
    measure = sweep.protocol.get("measure")
    if measure != "distance":
        identifier = {"likelihood": "bits_per_dimension", "loss": "denoising_score_matching_loss"}.get(str(measure))
        return (ScoreValue(sweep.metric, float(row["score"]), value(row, "error"), identifier),)
    features = features_of(sweep.metric)
    known = _IDENTIFIERS | (_OF_INCEPTION if features == INCEPTION else {})
    found = [
        ScoreValue(one.name(features), measured, one.error_in(row), known.get(one.key, one.key))
        for metric in all_metrics()
        if metric.is_in(row)
        for one in metric.quantities
        if (measured := value(row, one.key)) is not None
    ]
    if (perfect := sweep.perfect_model) is not None:
        title = f"{sweep.metric} of a perfect model ({perfect['words']})"
        found.insert(1, ScoreValue(title, perfect["score"], perfect["spread"]))
    return tuple(found)
