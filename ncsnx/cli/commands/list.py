"""`ncsnx list`: experiments and runs."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.session import FROM_THE_START, session

if TYPE_CHECKING:
    from pathlib import Path

    from ncsnx.console.messages import Messages
    from ncsnx.runs.summaries import RunSummary


@command("list", panel=RUNS_PANEL, place=130)
def list_command(
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="COLUMN=VALUE",
            help="Only runs with this value of a column or field: state=running, model.width=64. Repeatable.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="COLUMN",
            help="Order runs by a column or field, scores within each protocol; -COLUMN from the largest.",
            show_default="run",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    runs: options.Runs = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """List experiments and runs.

    A run has the step of its newest checkpoint, its last training loss, its best score, size and age. With --where or
    --sort, only runs are shown, with the column that they are sorted by. A broken file is listed with its error.

    A narrow terminal shows fewer columns; `ncsnx list | cat` and --json have all of them.
    """
    with session(FROM_THE_START, verbose=verbose) as messages:
        from ncsnx.runs.names import runs_folder

        found = _runs(runs_folder(runs), where or [], sort)
        if json:
            experiments = _experiments(messages)
            messages.json({"experiments": experiments, "runs": [one.as_json() for one in found]})
            return
        if where is None and sort is None:
            _show_experiments(messages)
            if found:
                messages.data("")
        if found:
            _show_runs(messages, found, sort)
        elif where:
            messages.info("no run matches")


def _show_experiments(messages: "Messages") -> None:
    from ncsnx.console.tables import Column, table

    experiments = _experiments(messages)
    good = [row for row in experiments if row["error"] is None]
    columns = ("experiment", "data", "px", "network", "levels", "batch", "steps", "from")
    right = ("px", "levels", "batch", "steps")
    left_out = {"batch": 1, "levels": 2}
    table(
        messages,
        [Column(title, "right" if title in right else "left", left_out.get(title, 0)) for title in columns],
        [[_text(row[_KEYS.get(title, title)]) for title in columns] for row in good],
    )
    for error in dict.fromkeys(row["error"] for row in experiments if row["error"] is not None):
        messages.data(f"broken: {error}")


def _show_runs(messages: "Messages", found: "list[RunSummary]", sort: str | None) -> None:
    """The table of runs, without columns that are empty in all rows. sort: what the runs are ordered by."""
    from ncsnx.console.tables import Column, table

    by = (sort or "").removeprefix("-")
    rows = [_cells(one, by) for one in found]
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    left = ("run", "experiment", "state", "protocol", "writer")
    left_out = {title: place for place, title in enumerate(("writer", "size", "of", "age", "experiment", "loss"), 1)}
    left_out.pop(by, None)
    columns = [Column(title, "left" if title in left else "right", left_out.get(title, 0)) for title in titles]
    table(messages, columns, [[row[title] for title in titles] for row in rows])


def _cells(one: "RunSummary", by: str) -> dict[str, str]:
    from ncsnx.config.codec import ABSENT, shown
    from ncsnx.quantities import byte_size, number
    from ncsnx.runs.summaries import RUN_COLUMNS, value_of

    value = {title: column(one) for title, column in RUN_COLUMNS.items()}
    losses = ("loss", "held_out") if by == "held_out" else ("loss",)
    measured = {title: "" if value[title] is None else number(value[title]) for title in (*losses, "score")}
    cells = {
        **{title: _text(value[title]) for title in ("run", "experiment", "step", "of")},
        "state": one.state if one.error is None else f"broken: {one.error}",
        **measured,
        "protocol": one.protocol or "",
        "writer": "" if one.writer is None else f"{one.writer.host}:{one.writer.pid}",
        "size": byte_size(one.size) if one.size else "",
        "age": "" if value["age"] is None else _age(value["age"]),
    }
    if by and by not in cells:
        cells[by] = "" if value_of(one, by) is ABSENT else shown(value_of(one, by))
    return cells


def _age(seconds: float) -> str:
    """An age in one unit: '5 s', '12 min', '3 h', '40 days'."""
    from ncsnx.quantities import counted

    for unit, unit_s, most in (("s", 1, 120), ("min", 60, 120), ("h", 3_600, 48)):
        if seconds < most * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return counted(int(seconds / 86_400), "day")


_KEYS = {"experiment": "name", "px": "image_size", "batch": "batch_size", "from": "where"}


def _text(value: object) -> str:
    from ncsnx.config.image_sizes import size_as_typed

    if isinstance(value, tuple):
        return size_as_typed((value[0], value[1]))  # in ASCII, so that a table needs no widths of other characters
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _experiments(messages: "Messages") -> list[dict[str, Any]]:
    from ncsnx.config.discovery import RANKS, discover, known_names
    from ncsnx.config.image_sizes import size_of_sides
    from ncsnx.config.loading import relative
    from ncsnx.config.variants import tag_of

    sources, rows = discover(), []
    for known in known_names(sources):
        experiment = known.registered.experiment
        where = relative(known.registered.where)
        rows.append(
            {
                "name": experiment.name,
                "data": tag_of(type(experiment.data)),
                "image_size": size_of_sides(experiment.data.shape[1:]),
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


def _runs(folder: "Path", where: list[str], sort: str | None) -> "list[RunSummary]":
    if not folder.is_dir():
        return []  # without the modules that read runs, which take longer to import than the rest of the command
    from ncsnx.runs.summaries import ordered, selected, summaries

    found = selected(summaries(folder), where)
    return found if sort is None else ordered(found, sort)
