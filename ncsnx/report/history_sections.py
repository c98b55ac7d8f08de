"""Sections about what runs are and how they were made: differences, summary, curves, configuration, history."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ncsnx.config.codec import flatten, unstructure
from ncsnx.config.differences import differing, shown
from ncsnx.config.registry import relative
from ncsnx.config.variants import tag_of
from ncsnx.noise.levels import sigmas
from ncsnx.quantities import counted, number
from ncsnx.report.chart import Chart, ChartPoint, Series, thinned_steps
from ncsnx.report.page_blocks import Block, ChartFigure, CommandLines, Paragraph, RunColumn, Section, Table
from ncsnx.report.run_facts import RunFacts, measured
from ncsnx.runs.doctor import Examination
from ncsnx.runs.names import as_typed

_MOST_SEGMENTS = 20
_MOST_CURVES = 6


def differences_section(runs: Sequence[RunFacts]) -> Section:
    """The values in which the runs differ, with a column each; empty for a single run."""
    known = [facts for facts in runs if facts.experiment is not None]
    if len(runs) < 2:
        return Section("Differences", "differences")
    differing_values = differing(*(facts.experiment for facts in known if facts.experiment is not None))
    rows = tuple(
        (path, *map(shown, values), "yes" if identity else "no") for path, values, identity in differing_values
    )
    same = len({facts.identity for facts in known}) == 1 and len({facts.data_fingerprint for facts in known}) == 1
    verdict = Paragraph(
        f"{counted(len(rows), 'value')} of the configurations differ{'s' if len(rows) == 1 else ''}. "
        f"The trained weights are determined by {'the same values and data' if same else 'different values or data'}."
    )
    head = ("value", *(facts.name for facts in known), "changes the weights")
    table = (Table("Values that differ", head, rows),) if rows else ()
    return Section("Differences", "differences", (verdict, *table))


def summary_section(runs: Sequence[RunFacts]) -> Section:
    """The main facts of each run, side by side."""
    facts: dict[str, Callable[[RunFacts], str]] = {
        "experiment": lambda one: one.experiment.name if one.experiment else "",
        "note": _notes,
        "data": lambda one: _tag(one.experiment and one.experiment.data),
        "network": lambda one: _tag(one.experiment and one.experiment.model),
        "noise levels": _noise,
        "sampler": lambda one: _tag(one.experiment and one.experiment.sampler),
        "steps": _steps,
        "checkpoints": lambda one: f"{len(one.steps):,}" if one.steps else "",
        "last training loss": lambda one: _last(one, "loss"),
        "last held-out loss": lambda one: _last(one, "held_out"),
        "identity": lambda one: one.identity[:16],
        "data fingerprint": lambda one: (one.data_fingerprint or "")[:16],
    }
    rows = tuple((name, *map(value, runs)) for name, value in facts.items() if any(map(value, runs)))
    return Section("Summary", "summary", (Table("The runs at a glance", ("", *(one.name for one in runs)), rows),))


def curves_section(runs: Sequence[RunFacts]) -> Section:
    """Training loss, held-out loss and a learning rate that changes, a line for each run."""
    charts = []
    for title, key, label in (
        ("Training loss, of the raw weights", "loss", "loss"),
        ("Held-out loss", "held_out", "loss"),
        ("Learning rate", "lr", "learning rate"),
    ):
        series = tuple(
            Series(
                f"{one.name}{_weights(one, key)}",
                tuple(ChartPoint(record["step"], measured(record, key)) for record in one.metrics if key in record),
                marks=key == "held_out",
            )
            for one in runs
        )
        chart = Chart(title, "training step", label, series)
        is_constant = key == "lr" and len({point.y for one in series for point in one.points}) == 1
        charts += [] if chart.is_empty or is_constant else [ChartFigure(chart)]
    return Section("Training", "training", tuple(charts))


def levels_blocks(facts: RunFacts) -> tuple[Block, ...]:
    """Held-out loss per noise level as recorded while training, for a few steps."""
    if facts.experiment is None:
        return ()
    levels = sigmas(facts.experiment.schedule)
    records = [one for one in facts.metrics if isinstance(one.get("held_out_levels"), dict)]
    series = []
    for place in thinned_steps(len(records), _MOST_CURVES):
        found: dict[str, Any] = records[place]["held_out_levels"]
        points = sorted(
            (
                ChartPoint(levels[int(level)], measured(found, level))
                for level in found
                if _is_level(level, len(levels))
            ),
            key=lambda point: point.x,
        )
        series.append(Series(f"step {records[place]['step']:,}", tuple(points), marks=True))
    chart = Chart("Held-out loss per noise level, while training", "noise level σ", "loss", tuple(series), log_x=True)
    return () if chart.is_empty else (ChartFigure(chart),)


def configuration_blocks(facts: RunFacts) -> tuple[Block, ...]:
    """Every value with its origin."""
    if facts.experiment is None:
        return ()
    rows = tuple(
        (path, shown(value), relative(facts.origins.get(path, "unknown")))
        for path, value in flatten(unstructure(facts.experiment))
    )
    return (
        Paragraph(f"Identity: {facts.identity}. Fingerprint of the data: {facts.data_fingerprint or 'none recorded'}."),
        Table("Every value and where it was written", ("value", "", "origin"), rows),
        CommandLines("Show it", (f"ncsnx show {as_typed(facts.run.path)} --origins",)),
    )


def history_blocks(facts: RunFacts) -> tuple[Block, ...]:
    """The starts of the training, the versions of the last one, and the commands."""
    if not facts.segments:
        return ()
    newest = facts.segments[-_MOST_SEGMENTS:]
    left = len(facts.segments) - len(newest)
    blocks: list[Block] = [Paragraph(f"{left:,} earlier starts are left out.")] if left else []
    rows = tuple(
        (
            one.started,
            "import" if one.imported else f"from step {one.from_step:,}",
            str(one.runtime.get("device", "")),
            "; ".join(f"{path}: {_change(change)}" for path, change in one.changes.items()),
            one.note,
            "" if one.git is None else f"{one.git.commit[:12]}{' (modified)' if one.git.dirty else ''}",
        )
        for one in newest
    )
    head = ("time", "start", "device", "changes", "note", "git")
    used = [place for place in range(len(head)) if any(row[place] for row in rows)]
    kept = tuple(tuple(row[place] for place in used) for row in rows)
    blocks.append(Table("Starts of the training", tuple(head[place] for place in used), kept))
    versions = tuple((name, str(version)) for name, version in newest[-1].versions.items() if version is not None)
    runtime = tuple((name, shown(value)) for name, value in newest[-1].runtime.items())
    blocks += [Table("Versions at the last start", ("package", "version"), versions)] if versions else []
    blocks += [Table("Execution at the last start", ("choice", ""), runtime)] if runtime else []
    commands = dict.fromkeys(as_command(one.command) for one in newest)
    return (*blocks, CommandLines("Train it again, or resume it", tuple(commands)))


def doctor_blocks(found: Examination) -> tuple[Block, ...]:
    """The verdict of an examination, with its findings."""
    verdict = (
        f"{'Sound' if found.is_sound else 'Not sound'}: {counted(found.files, 'file')} of "
        f"{counted(found.checkpoints, 'checkpoint')} verified, {counted(len(found.findings), 'finding')}."
    )
    rows = tuple(
        (_inside(one.path, found.run.path), f"note: {one.kind}" if one.is_note else one.kind, one.what, one.advice)
        for one in sorted(found.findings, key=lambda one: one.is_note)
    )
    table = (Table("Findings", ("file", "kind", "problem", "advice"), rows),) if rows else ()
    return (Paragraph(verdict), *table, CommandLines("Verify it again", (f"ncsnx doctor {found.run.typed}",)))


def columns(runs: Sequence[RunFacts], blocks: Callable[[RunFacts], Iterable[Block]]) -> tuple[RunColumn, ...]:
    """The column of each run that has blocks."""
    found = [(one, tuple(blocks(one))) for one in runs]
    return tuple(RunColumn((one.name,) if len(runs) > 1 else (), some) for one, some in found if some)


def as_command(recorded: str) -> str:
    """A recorded command line that begins with `ncsnx`, wherever that was installed."""
    program, _, rest = recorded.partition(" ")
    if Path(program).name in ("ncsnx", "__main__.py"):
        return f"ncsnx {rest}".rstrip()
    return recorded


def _inside(path: Path, run: Path) -> str:
    return str(path.relative_to(run)) if path.is_relative_to(run) and path != run else str(path)


def _notes(one: RunFacts) -> str:
    own = one.experiment.note if one.experiment else ""
    return "; ".join(dict.fromkeys(note for note in (own, *(part.note for part in one.segments)) if note))


def _tag(config: Any) -> str:
    return "" if config is None else tag_of(type(config)) or type(config).__name__


def _noise(one: RunFacts) -> str:
    if one.experiment is None:
        return ""
    schedule = one.experiment.schedule
    return f"σ {schedule.sigma_max:g} to {schedule.sigma_min:g} in {counted(schedule.levels, 'level')}"


def _steps(one: RunFacts) -> str:
    done = max([record["step"] for record in one.metrics] + list(one.steps), default=0)
    return f"{done:,} of {one.experiment.steps:,}" if one.experiment else f"{done:,}"


def _last(one: RunFacts, key: str) -> str:
    record = next((record for record in reversed(one.metrics) if key in record), None)
    return "" if record is None else f"{number(measured(record, key))} at step {record['step']:,}"


def _weights(one: RunFacts, key: str) -> str:
    record = next((record for record in one.metrics if key in record), {})
    weights = record.get("weights")
    known = {"ema": " (EMA weights)", "raw": " (raw weights)"}
    return known.get(str(weights), "") if key == "held_out" else ""


def _is_level(text: str, count: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) < count


def _change(change: Any) -> str:
    if isinstance(change, list) and len(change) == 2:
        return f"{shown(change[0])} → {shown(change[1])}"
    return shown(change)
