"""Which of the samplers that were compared is recommended: the nearest to the data of the fast ones that are usable."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ncsnx.config.command_words import typed
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.comparing.comparison_candidates import LEAST_SAVING
from ncsnx.quantities import counted, number, percent
from ncsnx.runs.fast_sampler import MOST_BROKEN, FastSampler, is_usable, read_fast, write_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row
from ncsnx.work import Work


@attrs.frozen
class Recommendation:
    """What a comparison recommends."""

    found: FastSampler | None
    again: Mapping[Sampler, Row]
    """What was measured again: first the settings that turned out to be unusable, then the recommended one."""
    reason: str = ""
    """Why nothing is recommended, where nothing is."""


def recommend(
    own: Row,
    rows: Sequence[tuple[Sampler, Row]],
    step: int,
    protocol: dict[str, Any],
    measured_again: Callable[[Sampler], Row],
) -> Recommendation:
    """The nearest to the data of the usable settings with at most a twelfth of the own sampler's evaluations.

    measured_again: gives the row of a setting from fresh seeds. Its numbers are those of the recommendation, and where
    they make the setting unusable, the next one is taken. The own sampler isn't measured again: it wasn't chosen for
    its numbers, so they are as good as fresh ones.
    """
    n, again = protocol["n"], dict[Sampler, Row]()
    if own["evaluations"] is None:
        return Recommendation(
            None, again, "the run's own sampler diverged, and how many evaluations it takes is not known"
        )
    fast = [
        (sampler, row)
        for sampler, row in rows
        if row["seeds"] == own["seeds"]
        and row["evaluations"] is not None
        and row["evaluations"] * LEAST_SAVING <= own["evaluations"]
    ]
    usable = [(sampler, row) for sampler, row in fast if is_usable(row, own, n)]
    for sampler, row in sorted(usable, key=lambda pair: float(pair[1]["distance"])):
        again[sampler] = measured_again(sampler)
        if is_usable(again[sampler], own, n):
            return Recommendation(FastSampler(sampler, step, again[sampler], own, protocol, chosen_by=row), again)
    return Recommendation(None, again, _why_nothing(own, fast, again))


def _why_nothing(own: Row, fast: Sequence[tuple[Sampler, Row]], again: Mapping[Sampler, Row]) -> str:
    few = f"at most a twelfth of the own sampler's {counted(own['evaluations'], 'evaluation')}"
    if not fast:
        return f"no setting that was measured takes {few}"
    shares = [again.get(sampler, row)["broken"] for sampler, row in fast]
    return (
        f"no setting with {few} is usable: the best of {len(fast):,} breaks {percent(min(shares))} of its images, and "
        f"the run's own sampler {percent(own['broken'])} (usable: at most {percent(MOST_BROKEN)}, and not clearly more "
        "than the own sampler)"
    )


def store_recommendation(run: Run, own: Row, verdict: Recommendation, work: Work) -> None:
    """Keeps the recommendation, unless there is one of the same checkpoint that rests on more images; says so."""
    found = verdict.found
    try:
        before = read_fast(run)
    except NcsnxError:  # none, or none that could be used
        before = None
    stays = "" if before is None else f"; sampler=fast still means {typed(before.sampler)}, {before}"
    if found is None:
        work.info(f"nothing is recommended, and nothing stored: {verdict.reason}{stays}")
        if own["broken"] > MOST_BROKEN:
            work.info("the run's own sampler breaks too many images too: train longer, then compare again")
        return
    assert found.chosen_by is not None
    chosen = f" (chosen by {number(found.chosen_by['distance'])}, the least of all)"
    if before is not None and before.step == found.step and before.images > found.images:
        work.info(f"recommended by these trials: {typed(found.sampler)}, {found}{chosen}")
        work.info(f"not stored, since they are fewer images than before{stays}")
    else:
        write_fast(run, found)
        instead = (
            "" if before is None or before.sampler == found.sampler else f" (in the place of {typed(before.sampler)})"
        )
        work.info(f"recommended, and stored as sampler=fast{instead}: {typed(found.sampler)}, {found}{chosen}")
    # the distance decides: in few steps no sampler has converged, and one that converges elsewhere may be nearest
    if bias := run.experiment().bias_of(found.sampler):
        work.warning(bias)
