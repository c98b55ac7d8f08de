"""Whether two sweeps order checkpoints alike: the rank correlation of their scores (Spearman 1904)."""

from collections.abc import Sequence
from contextlib import suppress

import attrs

from ncsnx.config.codec import unstructure
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.sweeps.distance_sweep import DistanceSweep
from ncsnx.quantities import counted, number
from ncsnx.runs.score_files import Row, ScoreFile, sweep_folders
from ncsnx.samplers.building import REVISION, revision_facts

LEAST = 3
"""Checkpoints whose order says anything."""


@attrs.frozen
class Agreement:
    """How two orders agree."""

    correlation: float
    """Spearman's: 1 for the same order, −1 for the opposite one."""
    checkpoints: int


def rank_agreement(rows: Sequence[Row], others: Sequence[Row]) -> Agreement | None:
    """Of the checkpoints, by step and weights, that both have; None where these are fewer than `LEAST`."""
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
    if not all(squares):  # all alike in one of them: nothing is ordered
        return Agreement(0.0, len(pairs))
    return Agreement(products / (squares[0] * squares[1]) ** 0.5, len(pairs))


def scores_of_own_sampler(sweep: DistanceSweep) -> ScoreFile | None:
    """The run's sweep of the same protocol by the experiment's own sampler; None where there is none."""
    others = {key: value for key, value in sweep.protocol().items() if key != REVISION}
    own = sweep.run.experiment().sampler
    wanted = {**others, "sampler": unstructure(own), **revision_facts(own), "evaluations": None}
    for folder in sweep_folders(sweep.run.fid):
        with suppress(NcsnxError, FileNotFoundError):
            found = ScoreFile.read(folder)
            if {**found.protocol, "evaluations": None} == wanted:
                return found
    return None


def agreement_in_words(sweep: DistanceSweep) -> str:
    """How the order of a sweep by another sampler agrees with that by the experiment's own, if that was swept too."""
    own = scores_of_own_sampler(sweep)
    found = None if own is None else rank_agreement(sweep.scores.rows, own.rows)
    if found is None:
        return (
            "made with sampler=fast; whether it orders checkpoints as the run's own sampler does shows once this "
            f"command without sampler=fast has scored {LEAST} or more of them too"
        )
    return (
        f"made with sampler=fast: its order of {counted(found.checkpoints, 'checkpoint')} agrees with that of the "
        f"run's own sampler by a rank correlation of {number(found.correlation)} (1: the same order)"
    )


def _ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value from 0 on; equal ones share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
