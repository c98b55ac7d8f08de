"""`ncsnx train`: trains an experiment, or resumes a run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import a_count
from ncsnx.cli.command_registry import TRAIN_PANEL, command
from ncsnx.cli.session import Shared, session, training_console

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.runs.folder import Run


def _refuse_fields(words: list[str]) -> None:
    """Raises UsageError for a field that is typed as an option (`--steps 900`), with the command for `steps=900`."""
    import inspect

    import attrs

    from ncsnx.config.experiment import Experiment
    from ncsnx.errors import Hint, UsageError

    fields = {field.name for field in attrs.fields(Experiment)}
    options_of_train = inspect.signature(train_command).parameters
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        path = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and path.partition(".")[0] in fields and path not in options_of_train:
            after = words[place + 1 :]
            if not equals and after:
                value, *after = after
            typed = shlex.join(["ncsnx", "train", *words[:place], f"{path}={value or 'VALUE'}", *after])
            raise UsageError(f"{option} is not an option: {path} is a field of the experiment", Hint("type", typed))


@command("train", panel=TRAIN_PANEL, place=10, check_words=_refuse_fields)
def train_command(
    experiment: options.ExperimentOrRun,
    overrides: options.ExperimentChanges = None,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the network (torch.compile).",
            show_default="long trainings on CPUs; when resuming, as before",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = None,
    graphs: options.Graphs = None,
    plain: options.Plain = False,
    checkpointing: Annotated[
        bool,
        typer.Option(
            "--checkpointing",
            help="Compute activations again in the backward pass: a fifth of the memory, more time, the same bits.",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = False,
    gpus: options.Gpus = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            parser=a_count(0, 256),
            help="Processes that read data ahead.",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = 0,
    patch: Annotated[
        bool,
        typer.Option(
            "--patch/--no-patch",
            envvar="NCSNX_PATCH",
            help="Record uncommitted changes of the experiment file's git repository in the run.",
            show_default="recorded, unless NCSNX_PATCH=0",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = True,
    run: options.NewRunName = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report",
            help="Renew the page RUN/report.html at checkpoints; see `ncsnx report`.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = True,
    note: options.Note = "",
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an experiment; an existing run resumes.

    FIELD=VALUE changes the experiment: `ncsnx train digits optimizer=sgd optimizer.momentum=0.8 steps=50k`. A run
    resumes from its newest intact checkpoint, and needs none of these again: `ncsnx train runs/NAME`. With
    `--run NEW` its configuration starts a new run.

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
        from ncsnx.jobs.training_job import TrainingJob, TrainingOptions
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
            options=TrainingOptions(
                device=device,
                threads=threads,
                plain=plain,
                compile=compile,
                graphs=graphs,
                checkpointing=checkpointing,
                workers=workers,
                report=report,
                patch=patch,
                note=note,
            ),
        )
        with StopRequest() as stop:
            result = carry_out_training(job, training_console(messages, stop), stop)
        _say_what_next(messages, result.run, runs)


def _say_what_next(messages: "Messages", place: "Run", runs: Path | None) -> None:
    """Lists what was written, and what to type next."""
    from ncsnx.runs.checkpoints.manifest import checkpoints
    from ncsnx.runs.names import runs_folder

    option = f" --runs {shlex.quote(str(runs))}" if runs is not None else ""
    steps = checkpoints(place)
    name = shlex.quote(place.name)
    if place.path.parent != runs_folder(runs):  # a run that was named by its path
        name, option = place.path_typed, ""
    if place.snapshots.is_dir():
        messages.info(f"grids of samples: {place.snapshots}")
    messages.info(f"checkpoints: {len(steps):,}, the newest at step {steps[-1]:,}" if steps else "no checkpoint")
    messages.info(f"next: ncsnx sample {name} --ckpt latest --n 64{option}")
