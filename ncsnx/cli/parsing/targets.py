"""Targets of `show` and `diff`: an experiment, a run or an exported model."""

import shlex
from difflib import get_close_matches
from pathlib import Path

import attrs

from ncsnx.config.discovery import UnknownExperimentError, file_and_name, is_file, resolve
from ncsnx.config.experiment import Experiment
from ncsnx.errors import Hint, UsageError
from ncsnx.runs.folder import Run, list_runs, open_run
from ncsnx.runs.model_source import Source, open_source
from ncsnx.runs.origins import read_origins


@attrs.frozen
class Target:
    """An experiment and its source."""

    experiment: Experiment
    origins: dict[str, str]
    where: str
    run: Run | None


def find_target(name: str, runs_folder: Path, overrides: list[str] | None = None) -> Target:
    """The experiment or the run that `name` means.

    `runs/NAME` and any other path mean the run, or the exported model; a `.py` file and a registered name mean the
    experiment; any other name means the run of that name. Raises UsageError where neither exists.
    """
    in_runs = name.rstrip("/").removeprefix("runs/")
    if name.startswith("runs/") and in_runs and "/" not in in_runs:
        return _of_run(open_run(runs_folder, in_runs), overrides)
    if "/" in name and file_and_name(name)[0] is None:
        return _of_source(open_source(runs_folder, name), overrides)
    try:
        found = resolve(name, overrides)
    except UnknownExperimentError as error:
        if is_file(runs_folder / name / "config.json"):
            return _of_run(open_run(runs_folder, name), overrides)
        near = get_close_matches(name, [other for other, _ in list_runs(runs_folder)], n=3)
        if near:
            raise UsageError(f"{error} Or the run {' or '.join(f'runs/{other}' for other in near)}?") from error
        raise
    return Target(found.experiment, found.origins, found.where, None)


def _of_source(source: Source, overrides: list[str] | None) -> Target:
    if isinstance(source, Run):
        return _of_run(source, overrides)
    _refuse_overrides(source, overrides)
    return Target(source.experiment(), {}, str(source.path), None)


def _of_run(run: Run, overrides: list[str] | None) -> Target:
    _refuse_overrides(run, overrides)
    return Target(run.experiment(), read_origins(run.origins_path), str(run.path), run)


def _refuse_overrides(source: Source, overrides: list[str] | None) -> None:
    if overrides:
        kind = "a run" if isinstance(source, Run) else "an exported model"
        changed = shlex.join(["ncsnx", "show", source.experiment().name, *overrides])
        raise UsageError(f"{source.path} is {kind}; only an experiment can be changed", Hint("such as", changed))
