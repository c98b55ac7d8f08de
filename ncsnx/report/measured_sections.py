"""Sections about measurements of runs: losses, scores, likelihoods, samplers, neighbours, each with its protocol."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ncsnx.evaluation.references.perfect_model import PerfectModel
from ncsnx.exchange.recorded_scores import measured_scores
from ncsnx.noise.levels import sigmas
from ncsnx.quantities import byte_size, counted, percent, with_error
from ncsnx.report.chart import Chart, ChartPoint, Series, thinned_steps
from ncsnx.report.embedded_pictures import PictureBudget
from ncsnx.report.history_sections import as_command
from ncsnx.report.page_blocks import (
    LONGEST_TEXT,
    Block,
    ChartFigure,
    CommandLines,
    Details,
    Paragraph,
    PictureFigure,
    Table,
)
from ncsnx.report.run_facts import Problems, RunFacts, folders_in
from ncsnx.runs.fast_sampler import is_usable
from ncsnx.runs.records.comparison_record import ComparedSampler, ComparisonRecord
from ncsnx.runs.records.neighbor_record import NeighborRecord
from ncsnx.runs.score_files import RESULTS, Row, ScoreFile, best_row, value, values

_MOST_SWEEPS = 4
"""Most results of one measurement that are shown, the newest ones."""
_MOST_ROWS = 40
_MOST_CURVES = 6


def score_blocks(facts: RunFacts, place: str, problems: Problems) -> Iterator[Block]:
    """The sweeps in a folder of the run, `fid`, `loss` or `likelihood`: chart, numbers of the best, protocol."""
    for folder in _newest(facts, place, problems):
        sweep = problems.tried(partial(_sweep, folder), None)
        if sweep is not None and sweep.rows:
            yield from _sweep_blocks(facts, sweep)


def _sweep(folder: Path) -> ScoreFile | None:
    try:
        return ScoreFile.read(folder)
    except FileNotFoundError:  # a sweep without a score yet
        return None


def _sweep_blocks(facts: RunFacts, sweep: ScoreFile) -> Iterator[Block]:
    rows = sweep.rows
    yield Paragraph(f"{sweep.metric}. Protocol: {sweep.caption}.")
    points = tuple(ChartPoint(row["step"], float(row["score"]), value(row, "error")) for row in rows)
    perfect = PerfectModel.from_json(sweep.perfect_model)
    series = [Series(sweep.metric, points, marks=True)]
    if perfect is not None and len(points) > 1:
        level = tuple(ChartPoint(point.x, perfect.score) for point in (points[0], points[-1]))
        series.append(Series("a perfect model", level, dashed=True))
    if len(points) > 1:
        yield ChartFigure(
            Chart(
                f"{sweep.metric[:1].upper()}{sweep.metric[1:]} of checkpoints",
                "training step",
                sweep.metric,
                tuple(series),
            )
        )
    best = best_row(rows)
    kept = [rows[number] for number in thinned_steps(len(rows), _MOST_ROWS)]
    table = tuple(
        (f"{row['step']:,}{' (best)' if row is best else ''}", with_error(float(row["score"]), value(row, "error")))
        for row in kept
    )
    left = f", {len(rows) - len(kept):,} left out" if len(kept) < len(rows) else ""
    yield Table(f"{sweep.metric}, lower is better{left}", ("step", "value ± standard error"), table)
    if best is not None and len(measured := measured_scores(sweep, best)) > 1:
        numbers = tuple((one.name, with_error(one.value, one.error)) for one in measured)
        yield Table(f"All scores of step {best['step']:,}", ("score", "value ± error"), numbers)
    if sweep.protocol.get("measure") == "loss":
        yield from _level_chart(facts, rows)
    yield from _protocol(sweep.protocol)
    yield from _recorded_commands(rows)


def _level_chart(facts: RunFacts, rows: Sequence[Row]) -> Iterator[Block]:
    if facts.experiment is None:
        return
    levels = sigmas(facts.experiment.schedule)
    series = tuple(
        Series(
            f"step {row['step']:,}",
            tuple(
                ChartPoint(sigma, loss)
                for sigma, loss in zip(levels, values(row, "levels", len(levels)), strict=True)
                if loss is not None
            ),
        )
        for row in (rows[number] for number in thinned_steps(len(rows), _MOST_CURVES))
    )
    chart = Chart("Held-out loss per noise level", "noise level σ", "loss", series, log_x=True)
    if not chart.is_empty:
        yield ChartFigure(chart)


def comparison_blocks(facts: RunFacts, problems: Problems) -> Iterator[Block]:
    """Comparisons of samplers: distance against evaluations, and the settings that no other one beats in both."""
    for folder in _newest(facts, "compare", problems):
        record = problems.document(folder / RESULTS, ComparisonRecord)
        if record is not None and record.rows:
            yield from _comparison(facts, record)


def _comparison(facts: RunFacts, record: ComparisonRecord) -> Iterator[Block]:
    n = int(value(record.protocol, "n") or 0)
    own = _latest(record.rows[0])
    found = [(one, _latest(one)) for one in record.rows]
    measured = [(one, row) for one, row in found if _place(row) is not None]
    points: dict[str, list[ChartPoint]] = {}
    for one, row in measured:
        evaluations, distance = _place(row) or (0.0, 0.0)
        hollow = _breaks(row, own, n)
        points.setdefault(one.sampler, []).append(
            ChartPoint(evaluations, distance, value(row, "spread"), hollow=hollow)
        )
    series = tuple(Series(tag, tuple(some), line=False, marks=True) for tag, some in points.items())
    yield Paragraph(f"Protocol: {record.caption}. Hollow marks: too many broken images to be usable.")
    label = str(record.rows[0].measured.get("metric", "distance"))
    chart = Chart("Samplers", "network evaluations per image", label, series, log_x=True, log_y=True)
    if not chart.is_empty:
        yield ChartFigure(chart)
    rows = []
    least = float("inf")
    for one, row in sorted(measured, key=lambda pair: _place(pair[1]) or (0.0, 0.0)):
        evaluations, distance = _place(row) or (0.0, 0.0)
        is_own = one is record.rows[0]
        if (distance < least and not _breaks(row, own, n)) or is_own or one.recommended:
            least = min(least, distance) if not _breaks(row, own, n) else least
            remark = "recommended (sampler=fast)" if one.recommended else "the run's own" if is_own else ""
            words = str(one.measured.get("words", one.sampler))
            broken = percent(value(row, "broken") or 0.0)
            rows.append((words, f"{evaluations:,g}", with_error(distance, value(row, "spread")), broken, remark))
    head = ("sampler", "evaluations", "distance ± spread", "broken", "")
    caption = f"The front, of {counted(len(record.rows), 'setting')}: better than all with fewer evaluations"
    yield Table(caption, head, tuple(rows[:_MOST_ROWS]))
    yield from _protocol(record.protocol)
    step = int(value(record.protocol, "step") or 0)
    yield CommandLines(
        "Measure again, with other options at their defaults",
        (f"ncsnx compare {facts.run.typed} --ckpt {step} --n {n}",),
    )


def _latest(one: ComparedSampler) -> Row:
    """The numbers with fresh seeds, if there are any, else those of the selection."""
    again = one.measured_again
    return {**one.measured, "seeds": one.seeds, **(again or {})}


def _place(row: Row) -> tuple[float, float] | None:
    evaluations, distance = value(row, "evaluations"), value(row, "distance")
    return None if evaluations is None or distance is None else (evaluations, distance)


def _breaks(row: Row, own: Row, n: int) -> bool:
    if n <= 0 or not value(row, "seeds") or not value(own, "seeds"):
        return False
    shares = [value(one, "broken") for one in (row, own)]
    if any(share is None or not 0 <= share <= 1 for share in shares):
        return False
    return not is_usable({"distance": None, **row}, own, n)


def neighbor_blocks(facts: RunFacts, problems: Problems, budget: PictureBudget) -> Iterator[Block]:
    """Searches for neighbours: the verdict, the pictures, the protocol."""
    for folder in _newest(facts, "neighbors", problems):
        record = problems.document(folder / RESULTS, NeighborRecord)
        if record is None:
            continue
        if record.verdict is not None:
            yield Paragraph(f"Verdict: {record.verdict.words}.")
        yield Paragraph(f"Protocol: {record.caption}.")
        for name, words in (("grid.png", "Samples with their nearest images"), ("distances.png", "Distances")):
            if name in record.files:
                alt = f"{words}; {record.caption}"
                picture = problems.tried(partial(budget.embedded, folder / name, alt), None)
                if picture is not None:
                    yield PictureFigure(picture, f"{words}.")
        yield from _protocol(record.protocol)
        n, seed, step = (int(value(record.protocol, key) or 0) for key in ("n", "seed", "step"))
        command = f"ncsnx neighbors {facts.run.typed} --ckpt {step} --n {n} --seed {seed}"
        yield CommandLines("Measure again, with other options at their defaults", (command,))


def _newest(facts: RunFacts, place: str, problems: Problems) -> list[Path]:
    found = folders_in(facts.run, place, problems)
    if len(found) > _MOST_SWEEPS:
        problems.lines.append(
            f"{facts.run.path / place}: the newest {_MOST_SWEEPS} of {len(found):,} results are shown"
        )
    return [entry.path for entry in reversed(found[-_MOST_SWEEPS:])]


def _protocol(protocol: Mapping[str, Any]) -> Iterator[Block]:
    text = json.dumps(protocol, indent=2)
    if len(text) <= LONGEST_TEXT:
        yield Details("Full protocol", text)
    else:
        yield Paragraph(f"The full protocol, {byte_size(len(text))} of text, is not shown; it is in the run's files.")


def _recorded_commands(rows: Sequence[Row]) -> Iterator[Block]:
    made = [row["made"] for row in rows if isinstance(row.get("made"), dict)]
    found = dict.fromkeys(as_command(one["command"]) for one in made if isinstance(one.get("command"), str))
    if found:
        yield CommandLines("Repeat it", tuple(found)[-_MOST_SWEEPS:])
