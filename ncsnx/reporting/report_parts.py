"""Facts of a page: how a run was made (summary, curves, starts, configuration), its results and their protocols."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ncsnx.config.codec import flatten, shown
from ncsnx.config.converter import unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.loading import relative
from ncsnx.config.variants import tag_of
from ncsnx.errors import shortened
from ncsnx.inverse.task_record import TaskRecord, misfit_in_words
from ncsnx.quantities import counted, number
from ncsnx.reporting.run_facts import RunFacts, address, draw_curve
from ncsnx.runs import result_records as records
from ncsnx.runs.fast_sampler import recommendation_of
from ncsnx.runs.ledger import STEPS, Series, value
from ncsnx.runs.measurements import Measurements, shown_columns
from ncsnx.runs.names import step_of
from ncsnx.runs.segments import Segment

T = TypeVar("T")


def summary(facts: RunFacts) -> list[tuple[str, str]]:
    """(name, fact) of the main facts of the run."""
    known = {
        "note": _notes(facts),
        "steps": _steps(facts),
        "checkpoints": f"{len(facts.steps):,}" if facts.steps else "",
        "last training loss": _last(facts, "loss"),
        "last held-out loss": _last(facts, "held_out"),
    }
    if (declared := facts.declared) is not None:
        known = {
            "experiment": declared.name,
            "data": "unknown" if declared.data is None else _tag(declared.data),
            "network": _tag(declared.model),
            "noise levels": declared.schedule.in_words,
            "sampler": _tag(declared.sampler),
            **known,
            "identity": facts.identity[:16],
            "data fingerprint": (facts.data_fingerprint or "")[:16],
        }
    return [(name, fact) for name, fact in known.items() if fact]


def training_curves(facts: RunFacts) -> Iterator[tuple[str, str]]:
    """(caption, picture) of training loss, held-out loss and a learning rate that changes."""
    for caption, key, label in (
        ("Training loss", "loss", "loss"),
        ("Held-out loss", "held_out", "loss"),
        ("Learning rate", "lr", "learning rate"),
    ):
        curve = [(record["step"], y) for record in facts.metrics if (y := value(record, key)) is not None]
        if len({y for _, y in curve}) > (1 if key == "lr" else 0):
            yield f"{caption}{_weights(facts, key)}", address(draw_curve(curve, label), "plot")


def evenly_spread(items: Sequence[T], most: int) -> list[T]:
    """Items evenly spread over all, at most `most`, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _weights(facts: RunFacts, key: str) -> str:
    """The weights that a loss belongs to, as a part of a name."""
    record: dict[str, Any] = next((record for record in facts.metrics if key in record), {})
    return "" if key == "lr" else {"ema": " (EMA weights)", "raw": " (raw weights)"}.get(record.get("weights", ""), "")


def configuration(facts: RunFacts) -> list[tuple[str, str, str]]:
    """(field, value, origin) of every value."""
    if facts.declared is None:
        return []
    return [
        (path, shortened(shown(entry)), relative(facts.origins.get(path, "unknown")))
        for path, entry in flatten(unstructure(facts.declared))
    ]


def starts(facts: RunFacts) -> list[tuple[str, ...]]:
    """Time, start, device, changes, note and git of the starts of the training."""
    return [
        (
            one.started,
            "import" if one.imported else f"from step {one.from_step:,}",
            str(one.runtime.get("device", "")),
            "; ".join(f"{path}: {_change(change)}" for path, change in one.changes.items()),
            one.note,
            "" if one.git is None else f"{one.git.commit[:12]}{' (modified)' if one.git.dirty else ''}",
        )
        for one in facts.segments
    ]


def execution(start: Segment) -> list[tuple[str, str]]:
    """(name, value) of the versions and choices of a start."""
    choices = [*start.versions.items(), *start.runtime.items()]
    return [(name, shown(choice)) for name, choice in choices if choice is not None]


def _notes(one: RunFacts) -> str:
    notes = [one.declared.note if one.declared else "", *(start.note for start in one.segments)]
    return "; ".join(dict.fromkeys(filter(None, notes)))


def _tag(config: Any) -> str:
    return tag_of(type(config)) or type(config).__name__


def _steps(one: RunFacts) -> str:
    done = max([record["step"] for record in one.metrics] + one.steps, default=0)
    return f"{done:,} of {one.declared.steps:,}" if isinstance(one.declared, Experiment) else f"{done:,}"


def _last(one: RunFacts, key: str) -> str:
    known = ((value(record, key), record["step"]) for record in reversed(one.metrics))
    return next((f"{number(loss)} at step {step:,}" for loss, step in known if loss is not None), "")


def _change(change: Any) -> str:
    if isinstance(change, list) and len(change) == 2:
        return f"{shown(change[0])} → {shown(change[1])}"
    return shown(change)


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
