"""Parts of a page about what a run produced: samples, scores, samplers, neighbours and tasks, with their protocols."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ncsnx.inverse.calibration import CALIBRATION_TITLES, calibration_in_words, calibration_rows
from ncsnx.inverse.task_record import CALIBRATION_FILE, TaskRecord, misfit_in_words
from ncsnx.quantities import counted
from ncsnx.reporting import html
from ncsnx.reporting.history import evenly_spread
from ncsnx.reporting.run_facts import RunFacts, as_command
from ncsnx.runs import result_records as records
from ncsnx.runs.fast_sampler import recommendation_of
from ncsnx.runs.ledger import STEPS, Series, value
from ncsnx.runs.measurements import Measurements, shown_columns
from ncsnx.runs.names import step_of

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


def measured(facts: RunFacts, measure: str) -> Iterator[Markup]:
    """The series of a measure: plots, numbers, protocol. measure: fid, loss, likelihood or compare."""
    series = sorted(facts.ledger.series(measure), key=lambda one: one.changed, reverse=True)
    for one in facts.first(series, measure):
        table, words = _table(facts, one), one.protocol.metric
        yield html.paragraph(f"{words}. Protocol: {one.caption}.")
        plots = [one.folder / f"{name}.png" for name in ("scores", "losses", "samplers")]
        yield html.beside((facts.picture(path, f"{words}, measured", "plot") for path in plots), "plots")
        shown = table.table()
        yield html.table(f"{words}, lower is better", [column.title for column in shown.columns], shown.rows)
        yield html.paragraph(table.errors_in_words()) if table.errors_in_words() else Markup()
        yield html.details("Full protocol", json.dumps(one.facts, indent=2))
        yield _repeat([entry.made for entry in one.entries])


def _table(facts: RunFacts, series: Series) -> Measurements:
    """The rows of a series: checkpoints, or samplers with the run's own one first."""
    columns = shown_columns(series.protocol, None)
    if series.protocol.over == STEPS or facts.experiment is None:
        return Measurements.of(series, columns=columns)
    found = recommendation_of(series, facts.experiment.sampler)
    rows = () if found is None else found.rows
    return Measurements.of(series, names=("sampler", "settings"), columns=columns, rows=rows, marks_best=False)


def neighbours(facts: RunFacts) -> Iterator[Markup]:
    """Searches for the nearest training images: verdict, pictures, protocol."""
    series = sorted(facts.ledger.series("neighbors"), key=lambda one: one.changed, reverse=True)
    for one in facts.first(series, "neighbors"):
        verdict = one.entries[0].values["verdict"]
        words = "" if verdict is None else f"Verdict: {verdict['words']}. "
        yield html.paragraph(f"{words}Protocol: {one.caption}.")
        yield facts.picture(one.folder / "grid.png", "Samples with their nearest training images")
        distances = facts.picture(one.folder / "distances.png", "Distances to the nearest training image", "plot")
        yield html.beside([distances], "plots")
        yield html.details("Full protocol", json.dumps(one.facts, indent=2))
        yield _repeat([one.entries[0].made])


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


def _repeat(made: Sequence[Mapping[str, Any]]) -> Markup:
    """The commands that made results; empty where none is recorded."""
    return html.commands("Repeat it", [as_command(one["command"]) for one in made if "command" in one])


def _protocol_in_words(record: records.SampleRecord) -> str:
    protocol = record.protocol
    n, step, seed = (value(protocol, key) or 0.0 for key in ("n", "step", "seed"))
    count, columns = value(protocol, "evaluations"), value(protocol, "columns") or 1.0
    images = counted(n, "image") if columns == 1 else f"{counted(n, 'row')} of {counted(columns, 'image')}"
    evaluations = "an adaptive number of evaluations" if count is None else counted(count, "evaluation")
    sampler = protocol.get("sampler", {}).get("type", "unknown")
    weights = {"ema": "EMA", "raw": "raw"}.get(protocol.get("weights", ""), "unknown")
    precision = "" if protocol.get("precision", "fp32") == "fp32" else f" in {protocol['precision']}"
    window = protocol.get("window")
    values = "" if window is None else f", black {window[0]:g} and white {window[1]:g}"
    return (
        f"{images} from seed {seed:.0f}, step {step:,.0f}, {weights} weights{precision}, sampler {sampler} "
        f"with {evaluations} per image{values}{'' if record.complete else '; unfinished'}"
    )
