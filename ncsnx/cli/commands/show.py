"""`ncsnx show`: a configuration, value by value, with the origin of each on request."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.completion import complete_experiment_or_run
from ncsnx.cli.parameters import a_name_or_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages


@command("show", panel=RUNS_PANEL, place=140)
def show_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            parser=a_name_or_path,
            autocompletion=complete_experiment_or_run,
            help="An experiment (or FILE.py, FILE.py:NAME), a run (runs/NAME) or an exported model (./DIR or "
            "hf://USER/MODEL).",
        ),
    ],
    overrides: options.ExperimentChanges = None,
    runs: options.Runs = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="Show where each value was written.", rich_help_panel=options.OUTPUT_PANEL)
    ] = False,
    fields: Annotated[
        bool,
        typer.Option(
            "--fields",
            help="Show type, default, accepted values and meaning of every field, or of those at the given paths: "
            "`--fields sampler model.width`.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show a configuration with every default.

    FIELD=VALUE changes it as `ncsnx train` would: `ncsnx show digits optimizer=sgd model.width=64`. FIELD=? says what
    the field accepts: `ncsnx show digits 'sampler=?'`.
    """
    with session(FROM_THE_START, verbose=verbose) as messages:
        from ncsnx.config.codec import flatten, identifying_paths, identity, shown, to_json
        from ncsnx.config.converter import unstructure
        from ncsnx.config.loading import relative
        from ncsnx.console.tables import Column, table
        from ncsnx.jobs.targets import find_target
        from ncsnx.runs.names import runs_folder

        paths = [word for word in overrides or [] if fields and "=" not in word]
        changes = [word for word in overrides or [] if word not in paths]
        target = find_target(name, runs_folder(runs), changes, work_of(messages))
        if fields:
            _show_fields(messages, target.experiment, paths, json)
            return
        known = {path: relative(origin) for path, origin in target.origins.items()}
        if json:
            saved = {**to_json(target.experiment), "identity": identity(target.experiment)}
            messages.json({**saved, "origins": known} if origins else saved)
            return
        known, files = _shortened(known)
        identifying = identifying_paths(target.experiment)
        columns = [Column("value"), Column(""), Column("identity"), *([Column("origin")] if origins else [])]
        rows = []
        for path, value in flatten(unstructure(target.experiment)):
            row = [path, shown(value), "yes" if path in identifying else ""]
            rows.append([*row, known.get(path, "unknown")] if origins else row)
        table(messages, columns, rows)
        facts = {"identity": identity(target.experiment), "from": relative(target.where), **(files if origins else {})}
        width = max(map(len, facts))
        messages.data("\nvalues marked yes are the identity: they determine the trained weights")
        messages.data("\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items()))


def _shortened(origins: "dict[str, str]") -> "tuple[dict[str, str], dict[str, str]]":
    """The origins with absolute paths shortened to their file's name, and file name → path.

    Files of equal names keep their paths.
    """
    from pathlib import Path

    paths = {origin.rpartition(":")[0] for origin in origins.values() if origin.startswith("/")}
    names = Counter(Path(path).name for path in paths)
    files = {name: path for path in sorted(paths) for name in [Path(path).name] if names[name] == 1}
    found = {}
    for path, origin in origins.items():
        file, _, line = origin.rpartition(":")
        name = Path(file).name
        found[path] = f"{name}:{line}" if files.get(name) == file else origin
    return found, files


def _show_fields(messages: "Messages", experiment: "Experiment", paths: list[str], json: bool) -> None:
    """Writes the facts of all fields, or of those at and below some paths. Raises UsageError for an unknown path."""
    import attrs

    from ncsnx.config.codec import flatten, shown
    from ncsnx.config.converter import unstructure
    from ncsnx.config.experiment import Experiment
    from ncsnx.config.field_facts import described, facts_within
    from ncsnx.config.overrides import Override, unknown_field

    facts, values = list(facts_within(experiment)), dict(flatten(unstructure(experiment)))
    for path in paths:
        if not any(fact.path == path for fact in facts):
            raise unknown_field(Override(path, ""), Experiment)
    wanted = [fact for fact in facts if not paths or any(f"{fact.path}.".startswith(f"{path}.") for path in paths)]
    if json:
        messages.json([{**attrs.asdict(fact), "value": values.get(fact.path)} for fact in wanted])
        return
    for fact in wanted:
        value = f" = {shown(values[fact.path])}" if fact.path in values else ""
        messages.data("\n".join([*described(fact, value), ""]))
