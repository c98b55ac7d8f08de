"""Recorded scores of one checkpoint, found by the sha256 of its weights, with their protocols."""

import attrs

from ncsnx.config.codec import identity
from ncsnx.config.pretrained import Declared
from ncsnx.errors import NcsnxError
from ncsnx.exchange.card import CardScore, ScoreValue
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, Series

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
