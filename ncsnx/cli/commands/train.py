"""`ncsnx train`: trains an experiment, or resumes a run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import TRAIN_PANEL, command
from ncsnx.cli.session import Shared, session
from ncsnx.console.working import training_console

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.runs.folder import Run


@command("train", panel=TRAIN_PANEL, place=10)
def train_command(
    context: typer.Context,
    experiment: options.ExperimentOrRun,
    overrides: options.ExperimentChanges = None,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.Graphs = False,
    plain: options.Plain = False,
    checkpointing: options.Checkpointing = False,
    gpus: options.Gpus = None,
    workers: options.DataWorkers = 0,
    patch: options.Patch = True,
    run: options.NewRunName = None,
    report: options.RenewedReport = True,
    track: options.Track = None,
    no_track: options.NoTrack = False,
    note: options.Note = "",
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an experiment; an existing run resumes.

    FIELD=VALUE changes the experiment: `ncsnx train digits optimizer=sgd optimizer.momentum=0.8 steps=50k`. A run
    resumes from its newest intact checkpoint. `ncsnx train runs/NAME` resumes it without repeating the changes; with
    `--run NEW` it starts a new run from that configuration.

    Ctrl-C, SIGTERM or a closed terminal (unless nohup is used) writes a checkpoint and ends with exit code 130, 143 or
    129. The same command resumes from there.
    """
    with session(
        "no step was trained; repeat the command to train",
        verbose=verbose,
        quiet=quiet,
        shared=Shared(gpus=gpus, device=device),
    ) as messages:
        from ncsnx.jobs.carrying_out import carry_out_training
        from ncsnx.jobs.targets import find_training
        from ncsnx.jobs.training_job import TrainingJob
        from ncsnx.runs.names import runs_folder
        from ncsnx.stopping import StopRequest

        found, folder, name = find_training(experiment, runs_folder(runs), overrides, run)
        messages.detail(f"experiment {found.experiment.name} from {found.where}")
        job = TrainingJob(
            experiment=found.experiment,
            origins=found.origins,
            source=found.source,
            file=None if found.file is None else Path(found.file),
            folder=folder,
            name=name,
            data=data,
            options=options.training_options(context),
        )
        with StopRequest() as stop:
            result = carry_out_training(job, training_console(messages, stop), stop)
        if messages.ranks.is_first:
            _say_what_next(messages, result.run, runs, report=report)


def _say_what_next(messages: "Messages", place: "Run", runs: Path | None, *, report: bool) -> None:
    """Lists what was written, and what to type next."""
    from ncsnx.runs.manifest import checkpoints
    from ncsnx.runs.names import runs_folder

    option = f" --runs {shlex.quote(str(runs))}" if runs is not None else ""
    steps = checkpoints(place)
    name = shlex.quote(place.name)
    if place.path.parent != runs_folder(runs):  # a run that was named by its path
        name, option = place.path_typed, ""
    if place.snapshots.is_dir():
        messages.info(f"grids of samples: {place.snapshots}")
    messages.info(f"checkpoints: {len(steps):,}, the newest at step {steps[-1]:,}" if steps else "no checkpoint")
    if report and place.report_path.is_file():
        messages.info(f"report: {place.report_path}")
    messages.info(f"next: ncsnx sample {name} --ckpt latest --n 64{option}")
