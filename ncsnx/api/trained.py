"""Trains from Python what `ncsnx train` trains."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Never

from ncsnx.api.arguments import as_tags, checked_changes, typed_target
from ncsnx.api.python_call import python_call
from ncsnx.config.experiment import Experiment
from ncsnx.config.loading import origins_of
from ncsnx.config.overrides import apply_overrides, parse_overrides
from ncsnx.config.provenance import PYTHON, Provenance, remembered_origins
from ncsnx.console.working import training_console
from ncsnx.errors import Hint, UsageError, require_between
from ncsnx.jobs.carrying_out import carry_out_training
from ncsnx.jobs.targets import find_training
from ncsnx.jobs.training_job import TrainingJob, TrainingOptions, TrainingResult
from ncsnx.runs.folder import Run
from ncsnx.runs.names import check_run_name, runs_folder

_OFF = ("0", "false", "no", "off", "n", "f")


def train(
    experiment: Experiment | Run | Path | str,
    *changes: str,
    name: str | None = None,
    runs: Path | str | None = None,
    data: Path | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    plain: bool = False,
    compile: bool = False,
    graphs: bool = False,
    checkpointing: bool = False,
    workers: int = 0,
    report: bool = True,
    track: Sequence[str] | None = None,
    patch: bool | None = None,
    note: str = "",
    progress: bool | None = None,
    **fields: Never,
) -> TrainingResult:
    """Trains an experiment to its last step; an existing run resumes from its newest intact checkpoint.

    experiment: an Experiment; or a name, file or run, as `ncsnx train` takes it.
    changes: FIELD=VALUE, as on the command line; fields are refused as keywords, with what to write instead.
    name: name of the run; default: the experiment's. runs: the runs folder; default: NCSNX_RUNS, else ./runs.
    data: folder of the data sets; default: NCSNX_DATA, else ./data.
    device: 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'. threads: CPU threads, which stay as they are set.
    plain, compile, graphs, checkpointing, workers, report, track, note: see `TrainingOptions`, which has the same
    defaults.
    patch: whether to record uncommitted changes of the git repository that holds the experiment's file; default: yes,
    unless NCSNX_PATCH=0.
    progress: whether to show it; default: in notebooks and on terminals.

    Ctrl-C raises KeyboardInterrupt once a checkpoint of the step reached is written; the same call then resumes. Raises
    NcsnxError, UsageError.
    """
    given: Mapping[str, object] = fields
    if given:
        changed = ", ".join(repr(f"{path}={value}") for path, value in given.items())
        raise UsageError(
            f"train has no argument {next(iter(given))}",
            Hint("give changes of fields as text", f"train(experiment, {changed})"),
        )
    if threads is not None:
        require_between("threads", threads, 1, 1_024)
    require_between("workers", workers, 0, 256)
    options = TrainingOptions(
        device=device,
        threads=threads,
        plain=plain,
        compile=compile,
        graphs=graphs,
        checkpointing=checkpointing,
        workers=workers,
        report=report,
        track=None if track is None else as_tags(track),
        patch=os.environ.get("NCSNX_PATCH", "").lower() not in _OFF if patch is None else patch,
        note=note,
    )
    place = None if data is None else Path(data)
    job = _job(experiment, checked_changes(changes), name, runs_folder(runs), place, options)
    with python_call(progress) as (messages, stop):
        return carry_out_training(job, training_console(messages, stop), stop)


def _job(
    experiment: Experiment | Run | Path | str,
    changes: list[str],
    name: str | None,
    runs: Path,
    data: Path | None,
    options: TrainingOptions,
) -> TrainingJob:
    if isinstance(experiment, Experiment):
        known = origins_of(experiment, Provenance(), PYTHON) | remembered_origins(experiment)
        changed, origins = apply_overrides(experiment, known, parse_overrides(changes))
        name = check_run_name(changed.name if name is None else name)
        return TrainingJob(experiment=changed, origins=origins, folder=runs, name=name, data=data, options=options)
    found, folder, name = find_training(typed_target(experiment), runs, changes, name)
    return TrainingJob(
        experiment=found.experiment,
        origins=found.origins,
        source=found.source,
        file=None if found.file is None else Path(found.file),
        folder=folder,
        name=name,
        data=data,
        options=options,
    )
