"""`ncsnx list`: experiments and runs."""

from typing import TYPE_CHECKING, Any

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.session import FROM_THE_START, session

if TYPE_CHECKING:
    from pathlib import Path

    from ncsnx.console.messages import Messages


@command("list", panel=RUNS_PANEL, place=130)
def list_command(runs: options.Runs = None, json: options.Json = False, verbose: options.Verbose = False) -> None:
    """List experiments and runs.

    A broken file is listed with its error.
    """
    with session(FROM_THE_START, verbose=verbose) as messages:
        from ncsnx.console.tables import Column, table
        from ncsnx.runs.names import runs_folder

        experiments, known_runs = _experiments(messages), _runs(runs_folder(runs))
        if json:
            messages.json({"experiments": experiments, "runs": known_runs})
            return
        good = [row for row in experiments if row["error"] is None]
        columns = ("experiment", "data", "px", "network", "levels", "batch", "steps", "from")
        right = ("px", "levels", "batch", "steps")
        table(
            messages,
            [Column(title, "right" if title in right else "left") for title in columns],
            [[_text(row[_KEYS.get(title, title)]) for title in columns] for row in good],
        )
        for error in dict.fromkeys(row["error"] for row in experiments if row["error"] is not None):
            messages.data(f"broken: {error}")
        if known_runs:
            messages.data("")
            table(
                messages,
                [Column("run"), Column("experiment"), Column("step", "right"), Column("of", "right"), Column("state")],
                [[_text(row[key]) for key in ("run", "experiment", "step", "steps", "state")] for row in known_runs],
            )


_KEYS = {"experiment": "name", "px": "image_size", "batch": "batch_size", "from": "where"}


def _text(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _experiments(messages: "Messages") -> list[dict[str, Any]]:
    from ncsnx.config.discovery import RANKS, discover, known_names
    from ncsnx.config.registry import relative
    from ncsnx.config.variants import tag_of

    sources, rows = discover(), []
    for known in known_names(sources):
        experiment = known.registered.experiment
        where = relative(known.registered.where)
        rows.append(
            {
                "name": experiment.name,
                "data": tag_of(type(experiment.data)),
                "image_size": experiment.data.image_size,
                "network": tag_of(type(experiment.model)),
                "levels": experiment.schedule.levels,
                "batch_size": experiment.batch_size,
                "steps": experiment.steps,
                "where": RANKS[known.rank] if known.rank == 2 else where,
                "error": known.error,
            }
        )
        for other in known.shadowed:
            if other.experiment != experiment:
                messages.info(f"{experiment.name} is {where}; the {experiment.name} of {other.where} is not used")
    broken = [source for source in sources if source.file is None]
    return rows + [{"name": None, "where": relative(str(one.path)), "error": one.error} for one in broken]


def _runs(folder: "Path") -> list[dict[str, Any]]:
    if not folder.is_dir():
        return []  # without the modules that read runs, which take longer to import than the rest of the command
    from ncsnx.errors import NcsnxError
    from ncsnx.runs.checkpoints.manifest import checkpoints
    from ncsnx.runs.exported import Export
    from ncsnx.runs.folder import Run, list_runs
    from ncsnx.runs.writer_lock import writer_of

    rows: list[dict[str, Any]] = []
    for name, found in list_runs(folder):
        try:
            if isinstance(found, str):
                raise NcsnxError(found)
            experiment, steps = found.experiment(), checkpoints(found) if isinstance(found, Run) else []
        except NcsnxError as error:
            rows.append({"run": name, "experiment": None, "step": None, "steps": None, "state": f"broken: {error}"})
            continue
        step = steps[-1] if steps else 0
        if isinstance(found, Export):
            step, state = found.config().step, "exported model"
        elif writer_of(found.path) is not None:  # a training, or an import
            state = "running"
        else:
            state = "complete" if step >= experiment.steps else "unfinished"
        rows.append(
            {"run": name, "experiment": experiment.name, "step": step, "steps": experiment.steps, "state": state}
        )
    return rows
