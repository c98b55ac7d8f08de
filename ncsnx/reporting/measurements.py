"""Parts of a page about what a run produced: samples, scores, samplers, neighbours and tasks, with their protocols."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ncsnx.exchange.recorded_scores import measured_scores
from ncsnx.inverse.calibration import CALIBRATION_TITLES, calibration_in_words, calibration_rows
from ncsnx.inverse.task_record import CALIBRATION_FILE, TaskRecord, misfit_in_words
from ncsnx.quantities import counted, percent, with_error
from ncsnx.reporting import html
from ncsnx.reporting.history import evenly_spread
from ncsnx.reporting.run_facts import RunFacts, as_command
from ncsnx.runs import result_records as records
from ncsnx.runs.names import step_of
from ncsnx.runs.score_files import RESULTS, SCORES, Row, ScoreFile, best_row, value

_MOST_GRIDS = 16
_MOST_PICTURES = 20


def snapshots(facts: RunFacts) -> Iterator[Markup]:
    """The grids drawn while training, the newest first."""
    found = [(step_of(path.stem), path) for path in facts.run.snapshots.glob("*.png")]
    grids = sorted((step, path) for step, path in found if step is not None)
    chosen = evenly_spread(grids, _MOST_GRIDS)
    if grids:
        left = len(grids) - len(chosen)
        words = f" {counted(left, 'grid')} in between are left out." if left else ""
        yield html.paragraph(f"Uncurated, from the same noise at every step, the newest first.{words}")
        yield html.beside((facts.picture(path, f"Step {step:,}") for step, path in reversed(chosen)), "strip")


def samples(facts: RunFacts) -> Iterator[Markup]:
    """Folders of samples with their protocols."""
    folders = [path.parent for path in facts.run.samples.glob(f"*/{records.PROTOCOL_FILE}")]
    for folder in facts.newest([folder for folder in folders if not (folder / records.TASK_FILE).exists()], "samples"):
        yield from _sample_folder(facts, folder, "Samples", ())


def tasks(facts: RunFacts) -> Iterator[Markup]:
    """Images that agree with measurements, with their distances to the truth."""
    for folder in facts.newest([path.parent for path in facts.run.samples.glob(f"*/{records.TASK_FILE}")], "tasks"):
        task = facts.document(folder / records.TASK_FILE, TaskRecord)
        if task is not None:
            yield from _sample_folder(facts, folder, f"Task {task.task}", _agreement(facts, folder, task))


def scores(facts: RunFacts, kind: Path) -> Iterator[Markup]:
    """The sweeps in a folder of the run: fid, loss or likelihood. Plots, numbers, protocol."""
    for folder in facts.newest([path.parent for path in kind.glob(f"*/{SCORES}")], kind.name):
        sweep = facts.tried(partial(ScoreFile.read, folder), None)
        if sweep is not None and sweep.rows:
            yield from _sweep(facts, sweep)


def samplers(facts: RunFacts) -> Iterator[Markup]:
    """Comparisons of samplers: distance against evaluations, of every setting."""
    for folder in facts.newest(_results(facts.run.compare), "compare"):
        record = facts.document(folder / RESULTS, records.ComparisonRecord)
        if record is not None:
            yield html.paragraph(f"Protocol: {record.caption}.")
            yield html.beside(
                [facts.picture(folder / "samplers.png", "Distance by network evaluations", "plot")], "plots"
            )
            head = ("sampler", "evaluations", "distance ± spread", "broken", "")
            yield html.table("Settings by network evaluations per image", head, _settings(record.rows))
            yield _protocol(record.protocol)
            yield _repeat([record.made])


def neighbours(facts: RunFacts) -> Iterator[Markup]:
    """Searches for the nearest training images: verdict, pictures, protocol."""
    for folder in facts.newest(_results(facts.run.neighbors), "neighbors"):
        record = facts.document(folder / RESULTS, records.NeighborRecord)
        if record is not None:
            verdict = "" if record.verdict is None else f"Verdict: {record.verdict.words}. "
            yield html.paragraph(f"{verdict}Protocol: {record.caption}.")
            yield facts.picture(folder / "grid.png", "Samples with their nearest training images")
            distances = facts.picture(folder / "distances.png", "Distances to the nearest training image", "plot")
            yield html.beside([distances], "plots")
            yield _protocol(record.protocol)
            yield _repeat([record.made])


def _sample_folder(facts: RunFacts, folder: Path, name: str, more: Iterator[Markup] | tuple[()]) -> Iterator[Markup]:
    record = facts.document(folder / records.PROTOCOL_FILE, records.SampleRecord)
    if record is not None:
        words = f"{name}: {_protocol_in_words(record)}"
        yield facts.picture(folder / "grid.png", words) or html.paragraph(f"{words}; without a picture.")
        yield from more
        yield _repeat([record.made])


def _agreement(facts: RunFacts, folder: Path, task: TaskRecord) -> Iterator[Markup]:
    """How a task's images agree with the measurement and with the truth."""
    is_bounded = facts.experiment is None or facts.experiment.data.is_bounded
    difference = misfit_in_words(task.misfit, bounded=is_bounded)
    yield html.paragraph(f"Largest difference from the measurement: {difference}.")
    compared = [one for one in task.pictures if one.distances]
    shown = [*([] if task.average is None else [task.average]), *compared[:_MOST_PICTURES]]
    left = f", the first {_MOST_PICTURES} of {counted(len(compared), 'picture')}"
    yield html.table(
        f"Distance to the truth{left if len(compared) > _MOST_PICTURES else ''}",
        ("picture", "mean of its images", "single image"),
        [(one.picture, one.in_words("mean"), one.in_words("one")) for one in shown],
    )
    if task.calibration is not None:
        caption = "Truths within the central part of their alternatives"
        yield html.table(caption, CALIBRATION_TITLES, calibration_rows(task.calibration))
        words = f"Calibration: {'; '.join(calibration_in_words(task.calibration).splitlines())}."
        yield html.beside([facts.picture(folder / CALIBRATION_FILE, words, "plot")], "plots") or html.paragraph(words)


def _sweep(facts: RunFacts, sweep: ScoreFile) -> Iterator[Markup]:
    yield html.paragraph(f"{sweep.metric}. Protocol: {sweep.caption}.")
    plots = {
        "scores.png": f"{sweep.metric} of checkpoints",
        "losses.png": "Held-out loss of checkpoints, and by noise level",
    }
    yield html.beside((facts.picture(sweep.folder / name, caption, "plot") for name, caption in plots.items()), "plots")
    best = best_row(sweep.rows)
    rows = [
        (f"{row['step']:,}{' (best)' if row is best else ''}", with_error(row["score"], value(row, "error")))
        for row in sweep.rows
    ]
    yield html.table(f"{sweep.metric}, lower is better", ("step", "value ± standard error"), rows)
    if best is not None and len(measured := measured_scores(sweep, best)) > 1:
        numbers = [(one.name, with_error(one.value, one.error)) for one in measured]
        yield html.table(f"All scores of step {best['step']:,}", ("score", "value ± error"), numbers)
    yield _protocol(sweep.protocol)
    yield _repeat([row.get("made", {}) for row in sweep.rows])


def _settings(compared: Sequence[records.ComparedSampler]) -> list[tuple[str, ...]]:
    """A row of cells for each setting that was measured, by evaluations; numbers from fresh seeds where they exist."""
    rows: list[tuple[float, tuple[str, ...]]] = []
    for one in compared:
        numbers: Row = {**one.measured, **(one.measured_again or {})}
        evaluations, distance = value(numbers, "evaluations"), value(numbers, "distance")
        if evaluations is None or distance is None:
            continue
        remark = "recommended (sampler=fast)" if one.recommended else "the run's own" if one is compared[0] else ""
        broken = percent(value(numbers, "broken") or 0.0)
        cells = (numbers["words"], f"{evaluations:,g}", with_error(distance, value(numbers, "spread")), broken, remark)
        rows.append((evaluations, cells))
    return [cells for _, cells in sorted(rows)]


def _results(kind: Path) -> list[Path]:
    return [path.parent for path in kind.glob(f"*/{RESULTS}")]


def _protocol(protocol: Mapping[str, Any]) -> Markup:
    return html.details("Full protocol", json.dumps(protocol, indent=2))


def _repeat(made: Sequence[Mapping[str, Any]]) -> Markup:
    """The commands that made results; empty where none is recorded."""
    return html.commands("Repeat it", [as_command(one["command"]) for one in made if "command" in one])


def _protocol_in_words(record: records.SampleRecord) -> str:
    protocol = record.protocol
    n, step, seed, evaluations = (value(protocol, key) or 0.0 for key in ("n", "step", "seed", "evaluations"))
    sampler = protocol.get("sampler", {}).get("type", "unknown")
    weights = {"ema": "EMA", "raw": "raw"}.get(protocol.get("weights", ""), "unknown")
    window = protocol.get("window")
    values = "" if window is None else f", black {window[0]:g} and white {window[1]:g}"
    return (
        f"{counted(n, 'image')} from seed {seed:.0f}, step {step:,.0f}, {weights} weights, sampler {sampler} with "
        f"{counted(evaluations, 'evaluation')} per image{values}{'' if record.complete else '; unfinished'}"
    )
