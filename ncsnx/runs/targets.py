"""Targets of commands: an experiment, a run or an exported model, with overrides applied.

A run's configuration comes from its config.json; nothing in the run is executed.
"""

from collections.abc import Sequence
from pathlib import Path

import attrs

from ncsnx.config.codec import flatten
from ncsnx.config.converter import unstructure
from ncsnx.config.discovery import UnknownExperimentError, file_and_name, is_file, resolve
from ncsnx.config.experiment import Experiment
from ncsnx.config.loading import origins_of
from ncsnx.config.origins import PYTHON
from ncsnx.config.overrides import apply_with_origins, changed_words, parse_overrides
from ncsnx.config.pretrained import Declared, require_trained
from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.exports.exported import Export
from ncsnx.exports.hub import hub_address
from ncsnx.runs.folder import Run, open_run, pictures_hint, read_origins
from ncsnx.runs.names import check_run_name, runs_folder
from ncsnx.runs.selection import ModelFolder, open_model_folder
from ncsnx.work import SILENT, Work

_CONFIG = Run(Path()).config_path.name


@attrs.frozen
class Target:
    """An experiment, or a model that was trained elsewhere, and where it was found."""

    declared: Declared
    origins: dict[str, str]
    """Dotted path → origin; without values whose origin isn't recorded."""
    where: str
    """FILE:LINE of the registration; the folder of the run or exported model, or its address on the Hub."""
    run: Run | None
    file_text: str | None = None
    """Text of the experiment's file; None for runs and exported models."""
    file: str | None = None
    """Path of the experiment's file; None for runs and exported models."""

    @property
    def experiment(self) -> Experiment:
        """The experiment. Raises NcsnxError for a model that was trained elsewhere."""
        return require_trained(self.declared, self.where)


def find_target(name: str, folder: Path, overrides: list[str] | None = None, work: Work = SILENT) -> Target:
    """The experiment, run or exported model that `name` means, with overrides (FIELD=VALUE) applied.

    `runs/NAME`, any other path, and the path of its config.json mean the run or the exported model; so does an address
    on the Hub (hf://USER/MODEL), from which `work` shows the download; a `.py` file and a
    registered name mean the experiment; any other name means the run of that name. Raises UsageError where none exists,
    NcsnxError for an invalid configuration.
    """
    changes = overrides or []
    if (at_path := _at_path(name, folder, work)) is not None:
        return _of_model_folder(at_path, changes)
    try:
        found = resolve(name, changes)
    except UnknownExperimentError as error:
        if is_file(folder / name / _CONFIG):
            return _of_model_folder(open_run(folder, name), changes)
        if Path(name).is_dir():
            raise UsageError(f"{name} is a folder, not an experiment", pictures_hint(Path(name))) from error
        raise
    return Target(found.experiment, found.origins, found.where, None, found.file_text, found.file)


def typed_target(target: Run | Path | str) -> str:
    """An experiment or a run as it is typed; a path never means a name. Raises UsageError for anything else."""
    if isinstance(target, str):
        return target
    path = target.path if isinstance(target, Run) else target
    if not isinstance(path, Path):
        raise UsageError(f"experiment must be an Experiment, a Run, a path or a name, not {quoted(path)}")
    return str(path) if path.suffix == ".py" else str(path.absolute())


def changed_experiment(experiment: Experiment, changes: list[str]) -> tuple[Experiment, dict[str, str]]:
    """An experiment of Python with changes (FIELD=VALUE), and the origins of its values. Raises UsageError."""
    return apply_with_origins(experiment, origins_of(experiment, PYTHON), parse_overrides(changes))


def experiment(
    name: Run | Path | str, changes: str | Sequence[str] = (), *, runs: Path | str | None = None
) -> Experiment:
    """The experiment that a name means on the command line, with changes: `experiment("digits", "steps=50 seed=1")`.

    name: a registered name, `FILE.py`, `FILE.py:NAME`, or a run: its path, such as `runs/digits`, or a Run.
    changes: words FIELD=VALUE, or one text of them, converted to the fields' types and checked; later, `attrs.evolve`
    does the same with values. runs: the runs folder; default: NCSNX_RUNS, else ./runs.

    In a notebook an experiment shows its fields. Imports no torch. Raises UsageError for an unknown name or field,
    NcsnxError for a broken file.
    """
    return find_target(typed_target(name), runs_folder(runs), changed_words(changes)).experiment


def find_training(
    name: str, folder: Path, overrides: list[str] | None, run_name: str | None
) -> tuple[Target, Path, str]:
    """The target of `train`, as in `find_target`; the folder of runs, and the name of the run in it.

    A run is resumed in place; with a `run_name` of another, its configuration starts that one, and the origin of its
    values is 'run NAME'. Raises UsageError and NcsnxError as `find_target` does, and NcsnxError for an exported model.
    """
    if (address := hub_address(name)) is not None:
        raise UsageError(f"{address} is an exported model, which holds nothing to resume training from")
    if isinstance(found := _at_path(name, folder), Export):
        raise NcsnxError(
            f"{found.path} is an exported model, which holds nothing to resume training from",
            Hint("train a new run from its weights", f"ncsnx train EXPERIMENT --from {found.path}"),
        )
    target = find_target(name, folder, overrides)
    if target.run is None:
        return target, folder, check_run_name(target.experiment.name if run_name is None else run_name)
    path = target.run.path if target.run.path.name not in ("", "..") else target.run.path.resolve()
    if run_name is not None and folder / run_name != path:
        return _derived(target.run, overrides or []), folder, check_run_name(run_name)
    return target, path.parent, path.name


def _derived(run: Run, overrides: list[str]) -> Target:
    """The target of a new run that begins from the configuration of another."""
    recorded = run.experiment()
    theirs = {path: f"run {run.name}" for path, _ in flatten(unstructure(recorded))}
    changed, origins = apply_with_origins(recorded, theirs, parse_overrides(overrides))
    return Target(changed, origins, run.where, run)


def _at_path(name: str, folder: Path, work: Work = SILENT) -> ModelFolder | None:
    """The run or exported model at its path, at that of its config.json or at an address on the Hub; None for a name
    and for an experiment's file."""
    if hub_address(name) is not None:
        return open_model_folder(folder, name, work)
    if file_and_name(name)[0] is not None or not ("/" in name or name == _CONFIG):
        return None
    path = str(Path(name).parent) if Path(name).name == _CONFIG and is_file(Path(name)) else name.rstrip("/") or "/"
    return open_model_folder(folder, path if "/" in path else f"./{path}")  # not a name in the runs folder


def _of_model_folder(found: ModelFolder, overrides: list[str]) -> Target:
    declared, run = found.declared(), found if isinstance(found, Run) else None
    known = {} if run is None else read_origins(run.origins_path)
    if not overrides:
        return Target(declared, known, found.where, run)
    parsed = parse_overrides(overrides)
    marked = {path: known.get(path, "") for path, _ in flatten(unstructure(declared))}
    changed, origins = apply_with_origins(require_trained(declared, found.where), marked, parsed)
    return Target(changed, {path: one for path, one in origins.items() if one}, found.where, run)
