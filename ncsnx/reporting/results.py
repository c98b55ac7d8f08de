"""Facts of a page about the results of a run: grids, samples, tasks and measurements, with their protocols."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ncsnx.inverse.task_record import TaskRecord, misfit_in_words
from ncsnx.quantities import counted
from ncsnx.reporting.history import evenly_spread
from ncsnx.reporting.run_facts import RunFacts
from ncsnx.runs import result_records as records
from ncsnx.runs.fast_sampler import recommendation_of
from ncsnx.runs.ledger import STEPS, Series, value
from ncsnx.runs.measurements import Measurements, shown_columns
from ncsnx.runs.names import step_of

_MOST_GRIDS = 16
_MOST_PICTURES = 20


def snapshots(facts: RunFacts) -> tuple[list[tuple[int, Path]], str]:
    """(step, path) of the grids drawn while training, the newest first, and a sentence about those left out."""
    found = [(step_of(path.stem), path) for path in facts.run.snapshots.glob("*.png")]
    grids = sorted((step, path) for step, path in found if step is not None)
    chosen = evenly_spread(grids, _MOST_GRIDS)
    left = len(grids) - len(chosen)
    return chosen[::-1], f" {counted(left, 'grid')} in between are left out." if left else ""


def samples(facts: RunFacts, *, of_tasks: bool) -> Iterator[tuple[Path, records.SampleRecord, TaskRecord | None]]:
    """The newest folders of samples, or of a task's images, with their records."""
    found = [path.parent for path in facts.run.samples.glob(f"*/{records.PROTOCOL_FILE}")]
    folders = [folder for folder in found if (folder / records.TASK_FILE).exists() == of_tasks]
    for folder in facts.newest(folders, "tasks" if of_tasks else "samples"):
        record = facts.document(folder / records.PROTOCOL_FILE, records.SampleRecord)
        task = facts.document(folder / records.TASK_FILE, TaskRecord)
        if record is not None and (task is not None) == of_tasks:
            yield folder, record, task


def numbers(facts: RunFacts, series: Series) -> Measurements:
    """The rows of a series: checkpoints, or samplers with the run's own one first."""
    columns = shown_columns(series.protocol, None)
    if series.protocol.over == STEPS or facts.declared is None:
        return Measurements.of(series, columns=columns)
    found = recommendation_of(series, facts.declared.sampler)
    rows = () if found is None else found.rows
    return Measurements.of(series, names=("sampler", "settings"), columns=columns, rows=rows, marks_best=False)


def misfit(facts: RunFacts, task: TaskRecord) -> str:
    """The largest difference of a task's images from the measurement."""
    return misfit_in_words(task.misfit, bounded=facts.space is None or facts.space.bounded)


def distances(task: TaskRecord) -> tuple[str, Sequence[str], list[tuple[str, str, str]]]:
    """Caption, titles and rows of the distances to the truth; no rows without one."""
    compared = [one for one in task.pictures if one.distances]
    shown = [*([] if task.average is None else [task.average]), *compared[:_MOST_PICTURES]]
    left = f", the first {_MOST_PICTURES} of {counted(len(compared), 'picture')}"
    return (
        f"Distance to the truth{left if len(compared) > _MOST_PICTURES else ''}",
        ("picture", "mean of its images", "single image"),
        [(one.picture, one.in_words("mean"), one.in_words("one")) for one in shown],
    )


def protocol_in_words(record: records.SampleRecord) -> str:
    """How samples were drawn."""
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
