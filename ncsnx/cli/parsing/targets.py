"""What `show` and `diff` take: an experiment, a run or an exported model."""

from difflib import get_close_matches
from pathlib import Path

import attrs

from ncsnx.config.discovery import UnknownExperimentError, file_and_name, is_file, resolve
from ncsnx.config.experiment import Experiment
from ncsnx.errors import UsageError
from ncsnx.runs.folder import Run, list_runs, open_run
from ncsnx.runs.model_source import Source, open_source
from ncsnx.runs.origins import read_origins


@attrs.frozen
class Target:
    """An experiment, wherever it was found."""

    experiment: Experiment
    origins: dict[str, str]
    where: str
    run: Run | None


def find_target(wanted: str, runs_folder: Path, overrides: list[str] | None = None) -> Target:
    """The experiment or the run that `wanted` means.

    `runs/NAME` and any other path mean the run, or the exported model; a `.py` file and a name that is registered mean
    the experiment; any other name means the run of that name. Raises UsageError where there is neither.
    """
    in_runs = wanted.rstrip("/").removeprefix("runs/")
    if wanted.startswith("runs/") and in_runs and "/" not in in_runs:
        return _of_run(open_run(runs_folder, in_runs), overrides)
    if "/" in wanted and file_and_name(wanted)[0] is None:
        return _of_source(open_source(runs_folder, wanted), overrides)
    try:
        found = resolve(wanted, overrides)
    except UnknownExperimentError as error:
        if is_file(runs_folder / wanted / "config.json"):
            return _of_run(open_run(runs_folder, wanted), overrides)
        near = get_close_matches(wanted, [name for name, _ in list_runs(runs_folder)], n=3)
        if near:
            raise UsageError(f"{error} Or the run {' or '.join(f'runs/{name}' for name in near)}?") from error
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
        what = "a run" if isinstance(source, Run) else "an exported model"
        command = f"ncsnx show {source.experiment().name} {' '.join(overrides)}"
        raise UsageError(f"{source.path} is {what} and stays as it is; overrides go with an experiment: `{command}`")
