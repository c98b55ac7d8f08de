"""The recommended sampler of a comparison: the fewest evaluations that are as good as the run's own sampler."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ncsnx.config.command_words import typed
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.comparing.comparison_candidates import LEAST_SAVING
from ncsnx.quantities import counted, number, percent
from ncsnx.runs.fast_sampler import MOST_BROKEN, FastSampler, is_as_good, is_usable, read_fast, write_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row
from ncsnx.work import Work


@attrs.frozen
class Recommendation:
    """The result of a comparison."""

    found: FastSampler | None
    """The recommended sampler; None if no setting is usable."""
    again: Mapping[Sampler, Row]
    """Rows from fresh seeds: of settings that they ruled out, then of the recommended one."""
    reason: str = ""
    """Why no sampler is recommended."""
    nearest: tuple[Sampler, Row] | None = None
    """The fast and usable setting with the smallest distance; None without a recommendation."""


def recommend(
    own: Row,
    rows: Sequence[tuple[Sampler, Row]],
    step: int,
    protocol: dict[str, Any],
    measured_again: Callable[[Sampler], Row],
) -> Recommendation:
    """The recommended one of the usable settings with at most a twelfth of the run's own sampler's evaluations.

    It is the setting with the fewest evaluations of those that are as good as the run's own sampler; if none is, the
    setting with the smallest distance. measured_again: returns the row of a setting from fresh seeds. The
    recommendation reports those numbers; if they rule the setting out, the next one is tried. The run's own sampler
    isn't measured again: it wasn't selected by its numbers, so they are unbiased.
    """
    n, again = protocol["n"], dict[Sampler, Row]()
    if own["evaluations"] is None:
        return Recommendation(None, again, "the run's own sampler diverged, so its number of evaluations is not known")
    fast = [
        (sampler, row)
        for sampler, row in rows
        if row["seeds"] == own["seeds"]
        and row["evaluations"] is not None
        and row["evaluations"] * LEAST_SAVING <= own["evaluations"]
    ]
    usable = sorted((pair for pair in fast if is_usable(pair[1], own, n)), key=lambda pair: float(pair[1]["distance"]))
    as_good = [pair for pair in usable if is_as_good(pair[1], own)]
    as_good.sort(key=lambda pair: float(pair[1]["evaluations"]))
    for number_tried, (sampler, row) in enumerate([*as_good, *usable]):
        if sampler not in again:
            again[sampler] = measured_again(sampler)
        holds = is_usable(again[sampler], own, n)
        if holds and (number_tried >= len(as_good) or is_as_good(again[sampler], own)):
            found = FastSampler(sampler, step, again[sampler], own, protocol, chosen_by=row)
            nearest = next(pair for pair in usable if pair[0] not in again or is_usable(again[pair[0]], own, n))
            return Recommendation(found, again, nearest=nearest)
    return Recommendation(None, again, _why_nothing(own, fast, again))


def _why_nothing(own: Row, fast: Sequence[tuple[Sampler, Row]], again: Mapping[Sampler, Row]) -> str:
    few = f"at most a twelfth of the run's own sampler's {counted(own['evaluations'], 'evaluation')}"
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
    as_good = is_as_good(found.chosen_by, own) and is_as_good(found.row, own)
    why = "the fewest evaluations that are as good" if as_good else "the smallest distance"
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
        work.info(f"the smallest distance was {number(row['distance'])} with {effort}: {typed(sampler)}")
    # only measurements decide: with few steps no sampler has converged, and even a biased one may come out best
    if bias := run.experiment().bias_of(found.sampler):
        work.warning(bias)
