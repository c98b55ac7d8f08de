"""Runs a comparison of samplers: trials of all settings, fresh seeds for the chosen one, results and plot."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from ncsnx.config.command_words import typed
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.comparing.plot_samplers import Point, plot_samplers
from ncsnx.evaluation.comparing.recommendation import Recommendation, recommend
from ncsnx.evaluation.comparing.sampler_comparison import Comparison, Setting
from ncsnx.evaluation.engine.measuring import discard_needless_parts, measure_all, missing, shared, writing
from ncsnx.quantities import counted
from ncsnx.runs.fast_sampler import is_usable
from ncsnx.runs.folder import Run
from ncsnx.runs.result_records import ComparisonRecord
from ncsnx.runs.score_files import RESULTS, Row
from ncsnx.storage.documents import document_of, write_document
from ncsnx.storage.process import this_process
from ncsnx.work import Work

_OF_SEEDS = ("evaluations", "distance", "spread", "broken", "seconds", "seeds")
"""Fields that are saved from the row with fresh seeds."""


@attrs.frozen(eq=False)
class ComparisonOutcome:
    """The rows of a comparison and its recommendation."""

    rows: Sequence[tuple[Sampler, Row]]
    """Samplers with their rows; the run's own sampler first."""
    verdict: Recommendation

    def to_json(self) -> list[dict[str, Any]]:
        """The rows as saved, each with its numbers from fresh seeds if it was measured again."""
        recommended = None if self.verdict.found is None else self.verdict.found.sampler
        return [
            {**row, "recommended": sampler == recommended, "measured_again": _of_seeds(self.verdict.again.get(sampler))}
            for sampler, row in self.rows
        ]


def measure_comparison(
    run: Run, comparison: Comparison, tried: Sequence[Sampler], work: Work
) -> ComparisonOutcome | None:
    """Measures missing trials and writes results and plot. tried: the run's own sampler first.

    Returns None on ranks other than 0. Raises NcsnxError.
    """
    return shared(comparison, work, lambda: _compare(run, comparison, tried, work))


def _compare(run: Run, comparison: Comparison, tried: Sequence[Sampler], work: Work) -> ComparisonOutcome:
    with writing(comparison):
        discard_needless_parts(comparison, [(trial.sampler, trial.seed) for trial in comparison.trials.found])
        _measure_all(comparison, tried, work)
        # samplers that only an earlier comparison tried stay in the results
        seeds = comparison.first_seeds
        known = [*tried, *(one for one in comparison.trials.samplers(seeds) if one not in tried)]
        rows = [(sampler, comparison.summary(sampler, seeds)) for sampler in known]
        again = partial(_measured_again, comparison, work)
        verdict = recommend(rows[0], rows[1:], comparison.model.step, comparison.protocol(), again)
        outcome = ComparisonOutcome(rows, verdict)
        _write(comparison, outcome, run.name)
    return outcome


def _measure_all(comparison: Comparison, tried: Sequence[Sampler], work: Work) -> None:
    """Measures the missing trials with the first seeds, by which a setting is chosen."""
    left = missing(comparison, _settings(tried, comparison.first_seeds))
    if not left:
        work.info("every trial is already measured")
        return
    measured = len(tried) * comparison.seeds - len(left)
    more = f" ({measured:,} more already measured)" if measured else ""
    work.info(f"{counted(len(left), 'trial')} of {counted(len(tried), 'setting')}{more}")
    _measure(comparison, left, work)


def _measured_again(comparison: Comparison, work: Work, sampler: Sampler) -> Row:
    """The row of a sampler from fresh seeds. Trials that already exist aren't repeated."""
    left = missing(comparison, _settings([sampler], comparison.fresh_seeds))
    if left:
        work.info(f"measuring again with {counted(len(left), 'fresh seed')}: {typed(sampler)}")
        _measure(comparison, left, work)
    return comparison.summary(sampler, comparison.fresh_seeds)


def _measure(comparison: Comparison, left: Sequence[Setting], work: Work) -> None:
    with work.progress("comparing", total=sum(map(comparison.units, left)), unit="sampler steps") as advance:
        problems = measure_all(
            comparison, left, work, advance, begun=lambda subject: work.detail(comparison.name(subject))
        )
    if problems:
        raise NcsnxError(f"trials are missing: {'; '.join(problems)}")


def _settings(samplers: Sequence[Sampler], seeds: Iterable[int]) -> list[Setting]:
    """All trials, seed by seed, so that every sampler has a first number early."""
    return [(sampler, seed) for seed in seeds for sampler in samplers]


def _of_seeds(row: Row | None) -> Mapping[str, Any] | None:
    return None if row is None else {key: row[key] for key in _OF_SEEDS}


def _write(comparison: Comparison, outcome: ComparisonOutcome, title: str) -> None:
    """Writes results and plot. The plot shows the numbers from fresh seeds where they exist."""
    protocol, caption, verdict = comparison.protocol(), comparison.caption(), outcome.verdict
    path = comparison.place / RESULTS
    content = {"protocol": protocol, "caption": caption, "made": this_process(), "rows": outcome.to_json()}
    write_document(path, document_of(content, ComparisonRecord, path))
    shown = [(sampler, verdict.again.get(sampler, row)) for sampler, row in outcome.rows]
    own = shown[0][1]
    drawn = [(sampler, row) for sampler, row in shown if row["distance"] is not None]
    points = [
        Point(
            row["sampler"],
            row["evaluations"],
            row["distance"],
            row["spread"],
            breaks_more=not is_usable(row, own, comparison.n),
        )
        for _, row in drawn
    ]
    best = None if verdict.found is None else [sampler for sampler, _ in drawn].index(verdict.found.sampler)
    ringed = "" if best is None else "; ringed: measured again with fresh seeds"
    if points:
        plot_samplers(
            comparison.place / "samplers",
            points,
            metric=comparison.metric,
            title=title,
            caption=f"{caption}; hollow: too many broken images{ringed}",
            best=best,
        )
