"""Compares samplers, and recommends the fewest evaluations that measured no worse than the run's own sampler."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from ncsnx.config.overrides import typed
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import variants
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.comparison import Comparison
from ncsnx.evaluation.comparison_candidates import most_evaluations
from ncsnx.evaluation.engine import MeasurementResult, measure_all, missing, writing
from ncsnx.evaluation.plots import plot_samplers
from ncsnx.quantities import counted, number, percent, with_error
from ncsnx.results import Column, Table
from ncsnx.runs.fast_sampler import MOST_BROKEN, FastSampler, is_no_worse, is_usable, read_fast, write_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.result_records import ComparisonRecord
from ncsnx.runs.score_files import RESULTS, Row
from ncsnx.samplers.contract import definition_of
from ncsnx.sampling.bias import known_bias
from ncsnx.storage.documents import document_of, write_document
from ncsnx.storage.process import this_process
from ncsnx.work import Work

_OF_SEEDS = ("evaluations", "distance", "spread", "broken", "seconds", "seeds")
"""Fields that are saved from the row with fresh seeds."""


@attrs.frozen(eq=False)
class Recommendation:
    """The result of a comparison."""

    rows: Sequence[tuple[Sampler, Row]]
    """Samplers with their rows; the run's own sampler first."""
    found: FastSampler | None
    """The recommended sampler; None if no setting is usable."""
    again: Mapping[Sampler, Row]
    """Rows from fresh seeds, of the run's own sampler and of the chosen one; empty if no setting was chosen."""
    reason: str = ""
    """Why no sampler is recommended."""

    def is_found(self, sampler: Sampler) -> bool:
        """Whether this is the recommended sampler."""
        return self.found is not None and sampler == self.found.sampler

    def to_json(self) -> list[dict[str, Any]]:
        """The rows as saved, each with its numbers from fresh seeds if it was measured again."""
        again = {sampler: {key: row[key] for key in _OF_SEEDS} for sampler, row in self.again.items()}
        return [
            {**row, "recommended": self.is_found(sampler), "measured_again": again.get(sampler)}
            for sampler, row in self.rows
        ]


def recommend(
    rows: Sequence[tuple[Sampler, Row]],
    step: int,
    protocol: dict[str, Any],
    measured_again: Callable[[Sampler], Row],
) -> Recommendation:
    """The recommended one of the usable settings with few enough evaluations (see `most_evaluations`).

    It is the setting with the fewest evaluations of those that measured no worse than the run's own sampler; if there
    is none, the setting with the smallest distance. rows: the run's own sampler first. measured_again: returns the row
    of a sampler from fresh seeds.

    One setting is chosen by the first seeds alone. It and the run's own sampler are then measured once with fresh
    seeds, and these numbers are reported whatever they are: a second choice by them would make them biased too.
    """
    (own_sampler, own_row), *others = rows
    n = protocol["n"]
    if own_row["evaluations"] is None:
        return Recommendation(
            rows, None, {}, "the run's own sampler diverged, so its number of evaluations is not known"
        )
    fast = [
        (sampler, row)
        for sampler, row in others
        if row["seeds"] == own_row["seeds"]
        and row["evaluations"] is not None
        and row["evaluations"] <= most_evaluations(int(own_row["evaluations"]))
    ]
    usable = sorted((pair for pair in fast if is_usable(pair[1], own_row, n)), key=lambda pair: pair[1]["distance"])
    if not usable:
        return Recommendation(rows, None, {}, _why_nothing(own_row, fast))
    no_worse = [pair for pair in usable if is_no_worse(pair[1], own_row)]
    chosen, row = min(no_worse, key=lambda pair: pair[1]["evaluations"]) if no_worse else usable[0]
    own_again, chosen_again = measured_again(own_sampler), measured_again(chosen)
    again = {own_sampler: own_again, chosen: chosen_again}
    if not is_usable(chosen_again, own_again, n):
        return Recommendation(
            rows,
            None,
            again,
            f"{typed(chosen)} breaks {percent(chosen_again['broken'])} of its images with fresh seeds, the run's own "
            f"sampler {percent(own_again['broken'])}",
        )
    return Recommendation(rows, FastSampler(chosen, step, chosen_again, own_again, protocol, chosen_by=row), again)


def _why_nothing(own: Row, fast: Sequence[tuple[Sampler, Row]]) -> str:
    few = f"at most {counted(most_evaluations(int(own['evaluations'])), 'evaluation')}"
    if not fast:
        return f"no measured setting takes {few}"
    least = min(row["broken"] for _, row in fast)
    return (
        f"no setting with {few} is usable: the best of {len(fast):,} breaks {percent(least)} of its images, the run's "
        f"own sampler {percent(own['broken'])} (usable: at most {percent(MOST_BROKEN)}, and not clearly more)"
    )


@attrs.frozen(kw_only=True)
class SamplerScore:
    """A sampler, measured with several seeds."""

    sampler: Sampler
    words: str
    """The sampler as it is typed on the command line."""
    evaluations: float | None
    """Network evaluations per image; None for an adaptive sampler that diverged."""
    distance: float | None
    """Mean over the seeds, lower is better; None: it diverged."""
    spread: float | None
    """Standard deviation over the seeds."""
    broken: float
    """Share of images that are rougher than any real one."""
    seconds: float | None
    """Time per image on this machine."""
    seeds: int
    """Number of seeds."""
    again: "SamplerScore | None" = None
    """The same with fresh seeds, which the choice didn't see; None: not measured again."""

    @classmethod
    def of(cls, sampler: Sampler, row: Row, again: Row | None = None) -> "SamplerScore":
        """The score in a row of results.json, and in the one of fresh seeds."""
        names = [field.name for field in attrs.fields(cls) if field.name not in ("sampler", "again")]
        second = None if again is None else cls.of(sampler, again)
        return cls(sampler=sampler, again=second, **{name: row[name] for name in names})


@attrs.frozen(kw_only=True, repr=False)
class ComparedSamplers(MeasurementResult):
    """Samplers on one checkpoint under one protocol."""

    run: Run
    measurement: Comparison
    verdict: Recommendation
    next_command: str
    """The command that draws with the recommended sampler."""

    @property
    def metric(self) -> str:
        """Name of the distance."""
        return self.measurement.metric

    @property
    def scores(self) -> tuple[SamplerScore, ...]:
        """The scores, those of the run's own sampler first."""
        again = self.verdict.again
        return tuple(SamplerScore.of(sampler, row, again.get(sampler)) for sampler, row in self.verdict.rows)

    @property
    def recommended(self) -> Sampler | None:
        """The sampler that these trials recommend, and that is stored as sampler='fast' unless more images spoke for
        another one; None: no setting is usable."""
        return None if self.verdict.found is None else self.verdict.found.sampler

    @property
    def reason(self) -> str:
        """Why no sampler is recommended; '' if one is."""
        return self.verdict.reason

    def __repr__(self) -> str:
        recommended = self.recommended
        verdict = f"none recommended: {self.reason}" if recommended is None else f"recommended: {typed(recommended)}"
        return f"{len(self.scores):,} samplers on {self.run.path}, {verdict}\n  {self.caption}"

    def shown(self) -> Sequence[Table | str]:
        """The table; a setting's second measurement stands below the first."""
        distance = f"{self.metric} ± spread"
        right = (Column(title, "right") for title in ("evaluations", distance, "broken", "s/image"))
        rows: list[list[str]] = []
        for sampler, row in self.verdict.rows:
            again = self.verdict.again.get(sampler)
            rows.append(_cells(row, "" if again is None or not rows else "chosen by"))
            if again is not None:
                result = "fast" if self.verdict.is_found(sampler) else "rejected"
                result = "the run's own" if len(rows) == 1 else result
                rows.append(_cells(again, f"measured again: {result}"))
        fast = [place for place, row in enumerate(rows) if row[-1].endswith(": fast")]
        return [Table(columns=[Column("sampler"), Column("settings"), *right, Column("")], rows=rows, bold=fast)]

    def closing(self) -> Sequence[str]:
        results = f"results: {self.folder}/results.json; plot: samplers.png, .svg"
        return [results] if self.recommended is None else [results, f"next: {self.next_command}"]

    def to_json(self) -> object:
        return self.verdict.to_json()

    def heading(self) -> tuple[str, str]:
        return "samplers", str(self.run.path)


def _cells(row: Row, remark: str) -> list[str]:
    distance = "diverged" if row["distance"] is None else with_error(row["distance"], row["spread"])
    words = " ".join(word.removeprefix("sampler.") for word in row["words"].split()[1:])
    evaluations = "" if row["evaluations"] is None else f"{row['evaluations']:,.0f}"
    seconds = "" if row["seconds"] is None else number(row["seconds"])
    return [row["sampler"], words, evaluations, distance, percent(row["broken"]), seconds, remark]


def store_recommendation(run: Run, verdict: Recommendation, work: Work) -> None:
    """Stores the recommendation and reports it, unless the stored one used the same checkpoint and more images."""
    found, before = verdict.found, None
    with suppress(NcsnxError):  # none is stored, or it is unreadable
        before = read_fast(run)
    stays = "" if before is None else f"; sampler=fast still means {typed(before.sampler)}, {before}"
    if found is None:
        work.info(f"no sampler is recommended, and none stored: {verdict.reason}{stays}")
        if verdict.rows[0][1]["broken"] > MOST_BROKEN:
            work.info("the run's own sampler breaks too many images too: train longer, then compare again")
        return
    chosen_by, own = found.chosen_by, verdict.rows[0][1]
    why = "the fewest evaluations that measured no worse" if is_no_worse(chosen_by, own) else "the smallest distance"
    by = f"chosen with other seeds, by its {number(chosen_by['distance'])}, as {why}"
    said = f"{typed(found.sampler)}, {found} ({by})"
    if before is not None and before.step == found.step and before.images > found.images:
        work.info(f"recommended, and not stored, since the stored one was measured with more images: {said}{stays}")
    else:
        write_fast(run, found)
        work.info(f"recommended, and stored as sampler=fast: {said}")
    # only measurements decide: with few steps no sampler has converged, and even a biased one may come out best
    if bias := known_bias(found.sampler, run.experiment()):
        work.info(bias)


def measure_comparison(run: Run, comparison: Comparison, tried: Sequence[Sampler], work: Work) -> Recommendation:
    """Measures missing trials and writes results and plot, on rank 0, where the others end. Raises NcsnxError.

    tried: the run's own sampler first.
    """
    seeds, ranks = comparison.first_seeds, work.ranks

    def summaries() -> list[tuple[Sampler, Row]]:
        # samplers that only an earlier comparison tried stay in the results
        known = dict.fromkeys([*tried, *comparison.trials.samplers(seeds)])
        return [(sampler, comparison.summary(sampler, seeds)) for sampler in known]

    def measured_again(sampler: Sampler) -> Row:
        _measure(comparison, [sampler], comparison.fresh_seeds, work)
        return ranks.first(lambda: comparison.summary(sampler, comparison.fresh_seeds), check_stop=work.check_stop)

    with writing(comparison, work):
        _measure(comparison, tried, seeds, work)
        rows = ranks.first(summaries, check_stop=work.check_stop)
        verdict = recommend(rows, comparison.model.step, comparison.protocol(), measured_again)
        if ranks.is_first:
            _write(comparison, verdict, run.name)
    ranks.end_others()
    return verdict


def _measure(comparison: Comparison, samplers: Sequence[Sampler], seeds: Sequence[int], work: Work) -> None:
    """Measures the missing trials, seed by seed, so that every sampler has a first number early."""
    settings = [(sampler, seed) for seed in seeds for sampler in samplers]
    left = work.ranks.first(lambda: missing(comparison, settings), check_stop=work.check_stop)
    if not left:
        return
    if seeds == comparison.fresh_seeds:
        work.info(f"measuring again with {counted(len(left), 'fresh seed')}: {typed(samplers[0])}")
    else:
        done = len(settings) - len(left)
        more = f" ({done:,} more already measured)" if done else ""
        work.info(f"{counted(len(left), 'trial')} of {counted(len(samplers), 'setting')}{more}")
    with work.progress("comparing", total=sum(map(comparison.units, left)), unit="sampler steps") as advance:
        problems = measure_all(
            comparison, left, work, advance, begun=lambda subject: work.detail(comparison.name(subject))
        )
    if problems:
        raise NcsnxError(f"trials are missing: {'; '.join(problems)}")


def _write(comparison: Comparison, verdict: Recommendation, title: str) -> None:
    """Writes results and plot. The plot shows the numbers from fresh seeds where they exist."""
    protocol, caption = comparison.protocol(), comparison.caption()
    path = comparison.place / RESULTS
    content = {"protocol": protocol, "caption": caption, "made": this_process(), "rows": verdict.to_json()}
    write_document(path, document_of(content, ComparisonRecord, path))
    sampler, row = verdict.rows[0]
    own = verdict.again.get(sampler, row)
    points: list[Row] = []
    for sampler, row in verdict.rows:
        shown, tag = verdict.again.get(sampler, row), row["sampler"]
        if shown["distance"] is not None:
            label, number = definition_of(type(sampler)).label or tag, list(variants(Sampler)).index(tag)
            looks = {"usable": is_usable(shown, own, comparison.n), "fast": verdict.is_found(sampler)}
            points.append({**shown, **looks, "label": label, "number": number})
    if points:
        caption += "; hollow: too many broken images"
        caption += "" if verdict.found is None else "; ringed: recommended, measured again with fresh seeds"
        stem = comparison.place / "samplers"
        plot_samplers(stem, points, metric=comparison.metric, title=title, caption=caption)
