"""The recommended sampler of a comparison: the fewest evaluations that measured no worse than the run's own sampler."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ncsnx.config.command_words import typed
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.comparison_candidates import most_evaluations
from ncsnx.noise.bias import known_bias
from ncsnx.quantities import counted, number, percent
from ncsnx.runs.fast_sampler import MOST_BROKEN, FastSampler, is_no_worse, is_usable, read_fast, write_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row
from ncsnx.work import Work


@attrs.frozen
class Recommendation:
    """The result of a comparison."""

    found: FastSampler | None
    """The recommended sampler; None if no setting is usable."""
    again: Mapping[Sampler, Row]
    """Rows from fresh seeds: of the run's own sampler if they were compared with it, of settings that they ruled out,
    and of the recommended one."""
    reason: str = ""
    """Why no sampler is recommended."""
    is_no_worse: bool = False
    """Whether the recommended sampler measured no worse than the run's own, with the first and with fresh seeds."""
    nearest: tuple[Sampler, Row] | None = None
    """The fast and usable setting with the smallest distance, and its row with the most recent seeds; None without a
    recommendation."""


def recommend(
    own: tuple[Sampler, Row],
    rows: Sequence[tuple[Sampler, Row]],
    step: int,
    protocol: dict[str, Any],
    measured_again: Callable[[Sampler], Row],
) -> Recommendation:
    """The recommended one of the usable settings with few enough evaluations (see `most_evaluations`).

    It is the setting with the fewest evaluations of those that measured no worse than the run's own sampler; if there
    is none, the setting with the smallest distance. own: the run's own sampler. measured_again: returns the row of a
    sampler from fresh seeds.

    Settings are chosen by the first seeds and reported by fresh ones. If those rule a setting out, the next one is
    tried. The run's own sampler is measured with fresh seeds too if a setting measured no worse: the first seeds
    favored the setting over it.
    """
    own_sampler, own_row = own
    n, again = protocol["n"], dict[Sampler, Row]()
    if own_row["evaluations"] is None:
        return Recommendation(None, again, "the run's own sampler diverged, so its number of evaluations is not known")
    fast = [
        (sampler, row)
        for sampler, row in rows
        if row["seeds"] == own_row["seeds"]
        and row["evaluations"] is not None
        and row["evaluations"] <= most_evaluations(int(own_row["evaluations"]))
    ]
    usable = [pair for pair in fast if is_usable(pair[1], own_row, n)]
    usable.sort(key=lambda pair: float(pair[1]["distance"]))
    candidates = [pair for pair in usable if is_no_worse(pair[1], own_row)]
    candidates.sort(key=lambda pair: float(pair[1]["evaluations"]))
    if candidates:
        again[own_sampler] = own_row = measured_again(own_sampler)

    def found(sampler: Sampler, chosen_by: Row, *, no_worse: bool) -> Recommendation:
        fast_sampler = FastSampler(sampler, step, again[sampler], own_row, protocol, chosen_by=chosen_by)
        left = (pair for pair in usable if pair[0] not in again or is_usable(again[pair[0]], own_row, n))
        nearest, row = next(left)
        return Recommendation(fast_sampler, again, is_no_worse=no_worse, nearest=(nearest, again.get(nearest, row)))

    for sampler, row in candidates:
        again[sampler] = measured_again(sampler)
        if is_usable(again[sampler], own_row, n) and is_no_worse(again[sampler], own_row):
            return found(sampler, row, no_worse=True)
    for sampler, row in usable:
        if sampler not in again:
            again[sampler] = measured_again(sampler)
        if is_usable(again[sampler], own_row, n):
            return found(sampler, row, no_worse=False)
    return Recommendation(None, again, _why_nothing(own_row, fast, again))


def _why_nothing(own: Row, fast: Sequence[tuple[Sampler, Row]], again: Mapping[Sampler, Row]) -> str:
    few = f"at most {counted(most_evaluations(int(own['evaluations'])), 'evaluation')}"
    if not fast:
        return f"no measured setting takes {few}"
    shares = [again.get(sampler, row)["broken"] for sampler, row in fast]
    return (
        f"no setting with {few} is usable: the best of {len(fast):,} breaks {percent(min(shares))} of its images, the "
        f"run's own sampler {percent(own['broken'])} (usable: at most {percent(MOST_BROKEN)}, and not clearly more "
        "than the run's own sampler)"
    )


def store_recommendation(run: Run, own: Row, verdict: Recommendation, work: Work) -> None:
    """Stores the recommendation and reports it, unless the stored one used the same checkpoint and more images."""
    found = verdict.found
    try:
        before = read_fast(run)
    except NcsnxError:  # none is stored, or it is unreadable
        before = None
    stays = "" if before is None else f"; sampler=fast still means {typed(before.sampler)}, {before}"
    if found is None:
        work.info(f"no sampler is recommended, and none stored: {verdict.reason}{stays}")
        if own["broken"] > MOST_BROKEN:
            work.info("the run's own sampler breaks too many images too: train longer, then compare again")
        return
    assert found.chosen_by is not None
    best = number(found.chosen_by["distance"])
    why = "the fewest evaluations that measured no worse" if verdict.is_no_worse else "the smallest distance"
    chosen = f" (chosen by its {best} as {why})"
    if before is not None and before.step == found.step and before.images > found.images:
        work.info(f"recommended by these trials: {typed(found.sampler)}, {found}{chosen}")
        work.info(f"not stored, since the stored one was measured with more images{stays}")
    else:
        write_fast(run, found)
        instead = "" if before is None or before.sampler == found.sampler else f" (replacing {typed(before.sampler)})"
        work.info(f"recommended, and stored as sampler=fast{instead}: {typed(found.sampler)}, {found}{chosen}")
    if verdict.nearest is not None and verdict.nearest[0] != found.sampler:
        sampler, row = verdict.nearest
        effort = counted(row["evaluations"], "evaluation")
        luck = "" if sampler in verdict.again else ", by the first seeds (not measured again)"
        work.info(f"the smallest distance was {number(row['distance'])} with {effort}{luck}: {typed(sampler)}")
    # only measurements decide: with few steps no sampler has converged, and even a biased one may come out best
    if bias := known_bias(found.sampler, run.experiment()):
        work.info(bias)
