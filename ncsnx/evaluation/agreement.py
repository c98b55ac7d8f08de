"""Rank correlation of two sweeps' scores (Spearman 1904): whether they order checkpoints the same way."""

from collections.abc import Sequence
from contextlib import suppress

import attrs

from ncsnx.config.codec import unstructure
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.distance_sweep import DistanceSweep
from ncsnx.quantities import counted, number
from ncsnx.runs.score_files import Row, ScoreFile, sweep_folders

LEAST = 3
"""Fewest checkpoints for a meaningful rank correlation."""


@attrs.frozen
class Agreement:
    """Rank correlation of two sweeps."""

    correlation: float
    """Spearman's correlation: 1 for the same order, −1 for the reverse."""
    checkpoints: int
    """Number of checkpoints that both sweeps scored."""


def rank_agreement(rows: Sequence[Row], others: Sequence[Row]) -> Agreement | None:
    """Rank correlation over the checkpoints (step and weights) that both have; None for fewer than `LEAST`."""
    theirs = {(row["step"], row["weights_sha256"]): float(row["score"]) for row in others}
    pairs = [
        (float(row["score"]), theirs[key]) for row in rows if (key := (row["step"], row["weights_sha256"])) in theirs
    ]
    if len(pairs) < LEAST:
        return None
    first, second = (_ranks([pair[side] for pair in pairs]) for side in (0, 1))
    mean = (len(pairs) - 1) / 2
    products = sum((one - mean) * (other - mean) for one, other in zip(first, second, strict=True))
    squares = [sum((rank - mean) ** 2 for rank in ranks) for ranks in (first, second)]
    if not all(squares):  # all scores of one sweep are equal, so there is no order
        return Agreement(0.0, len(pairs))
    return Agreement(products / (squares[0] * squares[1]) ** 0.5, len(pairs))


def scores_of_own_sampler(sweep: DistanceSweep) -> ScoreFile | None:
    """The run's sweep with the experiment's own sampler and otherwise the same protocol; None if there is none."""
    others = sweep.protocol()
    own = sweep.run.experiment().sampler
    wanted = {**others, "sampler": unstructure(own), "evaluations": None}
    for folder in sweep_folders(sweep.run.fid):
        with suppress(NcsnxError, FileNotFoundError):
            found = ScoreFile.read(folder)
            if {**found.protocol, "evaluations": None} == wanted:
                return found
    return None


def agreement_in_words(sweep: DistanceSweep) -> str:
    """A sentence on how the sweep's order of checkpoints agrees with the order by the experiment's own sampler."""
    own = scores_of_own_sampler(sweep)
    found = None if own is None else rank_agreement(sweep.scores.rows, own.rows)
    if found is None:
        return (
            "made with sampler=fast; to see whether the run's own sampler orders checkpoints the same way, score "
            f"{LEAST} or more of them without sampler=fast too"
        )
    return (
        f"made with sampler=fast: over {counted(found.checkpoints, 'checkpoint')}, the rank correlation with the "
        f"run's own sampler is {number(found.correlation)} (1: the same order)"
    )


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks of the values, from 0; equal values share their mean rank."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
