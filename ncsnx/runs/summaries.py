"""Summaries of runs (progress, last losses, best score), and their order.

What can't be read is left out. Only a configuration that can't be read and an interrupted import make a run broken.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs

from ncsnx.config.converter import unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.pretrained import Declared
from ncsnx.errors import NcsnxError, UsageError, quoted
from ncsnx.exports.exported import Export, is_export
from ncsnx.runs.folder import Run, run_names
from ncsnx.runs.ledger import Best, Ledger, best_checkpoint
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.writer_lock import is_being_written
from ncsnx.storage.json_lines import last_records

T = TypeVar("T")
RunState = Literal["running", "complete", "unfinished", "imported", "exported model", "broken"]


@attrs.frozen(kw_only=True)
class RunSummary:
    """A run or an exported model at one moment."""

    name: str
    path: Path
    state: RunState
    """'running': another process holds the writer's lock; 'imported': trained elsewhere."""
    error: str | None = None
    """Why the configuration can't be read, or that an import was interrupted, for state 'broken'."""
    declared: Declared | None = None
    """None for state 'broken'."""
    step: int | None = None
    """Step of the newest checkpoint; 0 without one."""
    loss: float | None = None
    """Last training loss; NaN if it wasn't finite, None without one."""
    held_out: float | None = None
    """Last held-out loss, as `loss`."""
    best: Best | None = None
    """The best scored checkpoint, as the checkpoint `best`."""

    @property
    def steps(self) -> int | None:
        """Optimizer steps of the complete run."""
        return self.declared.steps if isinstance(self.declared, Experiment) else None

    @property
    def protocol(self) -> str | None:
        """The metric of the best score and how it was measured: 'FID, n=10000, heun, 35 evaluations per image'."""
        return None if self.best is None else self.best.protocol

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values; NaN for losses that weren't finite."""
        return {
            "run": self.name,
            "path": str(self.path),
            "experiment": None if self.declared is None else self.declared.name,
            "step": self.step,
            "steps": self.steps,
            "state": self.state,
            "error": self.error,
            "loss": self.loss,
            "held_out": self.held_out,
            "best": None if self.best is None else {**self.best.as_json(), "protocol": self.protocol},
            "configuration": None if self.declared is None else unstructure(self.declared),
        }


def summaries(runs_folder: Path) -> list[RunSummary]:
    """Every run and exported model in the folder, by name. Raises NcsnxError if the folder can't be read."""
    paths = [runs_folder / name for name in run_names(runs_folder)]
    return [summary_of(Export(path) if is_export(path) else Run(path)) for path in paths]


def summary_of(source: Run | Export) -> RunSummary:
    """The summary of a run or exported model."""
    state: RunState
    try:
        declared = source.declared()
        if isinstance(source, Run) and source.data_fingerprint() is None and not is_being_written(source.path):
            source.steps()  # raises for an import that was interrupted
        if isinstance(source, Export):
            step, state = source.config().step, "exported model"
        elif not isinstance(declared, Experiment):
            step, state = max(checkpoints(source), default=0), "imported"
        else:
            step = max(checkpoints(source), default=0)
            running, complete = is_being_written(source.path), declared.is_complete(step)
            state = "running" if running else "complete" if complete else "unfinished"
    except NcsnxError as error:
        return RunSummary(name=source.name, path=source.path, state="broken", error=str(error))
    found = RunSummary(name=source.name, path=source.path, state=state, declared=declared, step=step)
    if isinstance(source, Export):
        return found
    none: list[dict[str, Any]] = []
    records = _tried(lambda: last_records(source.metrics_path), none)
    best = _tried(lambda: best_checkpoint(Ledger.read(source, ["fid"])), None)
    return attrs.evolve(found, loss=_last(records, "loss"), held_out=_last(records, "held_out"), best=best)


def _tried(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except (NcsnxError, OSError):
        return otherwise


def _last(records: list[dict[str, Any]], key: str) -> float | None:
    value = next((record[key] for record in reversed(records) if key in record), ...)
    if value is ... or isinstance(value, bool):
        return None
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else math.nan


RUN_COLUMNS: dict[str, Callable[[RunSummary], Any]] = {
    "run": lambda one: one.name,
    "experiment": lambda one: None if one.declared is None else one.declared.name,
    "step": lambda one: one.step,
    "of": lambda one: one.steps,
    "state": lambda one: one.state,
    "loss": lambda one: one.loss,
    "held_out": lambda one: one.held_out,
    "score": lambda one: None if one.best is None else one.best.score,
    "protocol": lambda one: one.protocol,
}
"""Value of each column."""


def ordered(runs: Sequence[RunSummary], column: str) -> list[RunSummary]:
    """The runs by a column, ascending; descending with '-' before it.

    Scores are ordered within each protocol, since those of different features, references, numbers of images or
    samplers can't be compared. Runs without a value come last. Raises UsageError for an unknown column.
    """
    name = column.removeprefix("-")
    if name not in RUN_COLUMNS:
        raise UsageError(f"there is no column {quoted(name)}; expected one of {', '.join(RUN_COLUMNS)}")

    def key(run: RunSummary) -> tuple[Any, ...]:
        best = run.best
        protocol = (best.series.protocol.digest, best.protocol) if name == "score" and best else ()
        return (*protocol, RUN_COLUMNS[name](run))

    def is_unknown(run: RunSummary) -> bool:
        value = RUN_COLUMNS[name](run)
        return value is None or (isinstance(value, float) and math.isnan(value))

    known = [run for run in runs if not is_unknown(run)]
    return [*sorted(known, key=key, reverse=column.startswith("-")), *filter(is_unknown, runs)]
