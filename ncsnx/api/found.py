"""Experiments by name, from Python."""

from pathlib import Path

from ncsnx.api.arguments import checked_changes, typed_target
from ncsnx.config.experiment import Experiment
from ncsnx.config.provenance import remember_origins
from ncsnx.jobs.targets import find_target
from ncsnx.runs.folder import Run
from ncsnx.runs.names import runs_folder


def experiment(name: Run | Path | str, *changes: str, runs: Path | str | None = None) -> Experiment:
    """The experiment that a name means on the command line, with changes: `experiment("digits", "steps=50")`.

    name: a registered name, `FILE.py`, `FILE.py:NAME`, or a run: its path, such as `runs/digits`, or a Run.
    changes: FIELD=VALUE, converted to the field's type and checked; later, `attrs.evolve` does the same with values.
    runs: the runs folder; default: NCSNX_RUNS, else ./runs.

    In a notebook an experiment shows its fields, with their origins if it comes from here. Imports no torch. Raises
    UsageError for an unknown name or field, NcsnxError for a broken file.
    """
    found = find_target(typed_target(name), runs_folder(runs), checked_changes(changes))
    remember_origins(found.experiment, found.origins)
    return found.experiment
