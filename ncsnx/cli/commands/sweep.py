"""`ncsnx sweep`: one run for each combination of values, trained, scored and compared."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import a_count
from ncsnx.cli.command_registry import TRAIN_PANEL, command
from ncsnx.cli.session import Shared, session

if TYPE_CHECKING:
    from ncsnx.config.overrides import Override
    from ncsnx.jobs.distance_options import DistanceOptions
    from ncsnx.jobs.parameter_sweep.beginning import ParameterSweep
    from ncsnx.jobs.targets import Target

SWEEP_PANEL = "Sweep"
COMPARISON_PANEL = "Comparison"


def _refuse_fields(words: list[str]) -> None:
    """Raises UsageError for a field that is typed as an option (`--steps 900`), with the command for `steps=900`."""
    from ncsnx.cli.parsing.fields_as_options import refuse_fields

    refuse_fields("sweep", sweep_command, words)


@command("sweep", panel=TRAIN_PANEL, place=15, check_words=_refuse_fields)
def sweep_command(
    context: typer.Context,
    experiment: options.ExperimentOrRun,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIELD=VALUE,VALUE",
            help="Values that a field takes in turn, such as model.width=32,64; FIELD=VALUE is the same for all runs.",
        ),
    ] = None,
    zipped: Annotated[
        bool,
        typer.Option(
            "--zip",
            help="Pair the fields' values one by one, instead of every combination.",
            rich_help_panel=SWEEP_PANEL,
        ),
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            metavar="N",
            parser=a_count(1, 1_000),
            help="Train every setting N times, with the experiment's seed and those that follow it.",
            rich_help_panel=SWEEP_PANEL,
        ),
    ] = 1,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name of the sweep, with which the names of its runs begin.",
            show_default="the experiment's",
            rich_help_panel=SWEEP_PANEL,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the runs and how far they are, and train, score and write nothing.",
            rich_help_panel=SWEEP_PANEL,
        ),
    ] = False,
    fid: Annotated[
        bool,
        typer.Option(
            "--fid",
            help="Score the finished runs as `ncsnx fid` does, and compare them.",
            rich_help_panel=COMPARISON_PANEL,
        ),
    ] = False,
    loss: Annotated[
        bool,
        typer.Option(
            "--loss",
            help="Measure the held-out loss of the finished runs as `ncsnx loss` does, and compare them.",
            rich_help_panel=COMPARISON_PANEL,
        ),
    ] = False,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            metavar="N",
            help="Images per run for --fid.",
            show_default="1000",
            rich_help_panel=COMPARISON_PANEL,
        ),
    ] = None,
    features: options.FeaturesTag = None,
    reference: options.ReferenceSet = None,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    cache: options.Cache = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.Graphs = None,
    plain: options.Plain = False,
    checkpointing: options.Checkpointing = False,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            metavar="N",
            parser=a_count(1, 1024),
            help="GPUs of this machine, each of which trains runs of its own.",
            show_default="one device",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = None,
    workers: options.DataWorkers = 0,
    patch: options.Patch = True,
    report: options.RenewedReport = True,
    track: options.Track = None,
    no_track: options.NoTrack = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a run for each combination of values, and compare them.

    `ncsnx sweep digits model.width=32,64 optimizer.lr=1e-3,3e-4 --seeds 3` makes twelve runs, named by what differs:
    digits-width_32-lr_0.001-seed_1234. Put a value with a comma in quotation marks: data.path='"a,b.npy",c.npy'.

    The same command resumes: finished runs are left as they are. A run that fails doesn't end the others. Under
    torchrun and in the tasks of a Slurm array, each process trains its share of the runs.

    With --fid or --loss the newest checkpoint of each run is scored. A table and a plot in NAME.sweep/ then compare
    the settings, by mean and standard deviation over seeds.
    """
    with session(
        "no step was trained; repeat the command to train",
        verbose=verbose,
        quiet=quiet,
        shared=Shared(gpus=gpus, device=device),
    ) as messages:
        sweep, target, settings = _asked(experiment, values or [], runs, name=name, zipped=zipped, seeds=seeds)
        if not fid:
            _refuse_idle(settings, n=n, features=features, reference=reference)
        training = options.training_options(context)

        from ncsnx.cli.parameter_sweeps import SweepCommand
        from ncsnx.evaluation.sweep_request import SweepRequest
        from ncsnx.sampling.request import images_at_once

        SweepCommand(
            messages=messages,
            sweep=sweep,
            target=target,
            training=training,
            data=data,
            distance=_distance(features, settings, reference, data, cache) if fid else None,
            images=SweepRequest(n=1000 if n is None else n, batch_size=images_at_once(sweep.base.data, None)),
            loss=loss,
            json=json,
        ).carry_out(dry_run=dry_run)


def _distance(
    features: str | None, settings: "list[Override]", reference: str | None, data: Path | None, cache: Path | None
) -> "DistanceOptions":
    from ncsnx.cli.parsing.feature_options import parse_features
    from ncsnx.jobs.distance_options import DistanceOptions  # here, since it imports torch

    return DistanceOptions(
        features=partial(parse_features, features, settings=settings), reference=reference, data=data, cache=cache
    )


def _refuse_idle(settings: "list[Override]", **given: object) -> None:
    """Raises UsageError for settings of the features, or options of the score, if no score is asked for."""
    from ncsnx.errors import Hint, UsageError
    from ncsnx.spelling import argument, parameter

    idle = [parameter(name) for name, value in given.items() if value is not None]
    if idle := [*idle, *(one.path for one in settings)]:
        raise UsageError(f"{idle[0]} is for the score", Hint("compute it", adds=argument("fid")))


def _asked(
    typed: str, words: list[str], runs: Path | None, *, name: str | None, zipped: bool, seeds: int
) -> "tuple[ParameterSweep, Target, list[Override]]":
    """The sweep, its experiment or run, and the changes to the features. Raises UsageError."""
    from ncsnx.config.codec import flatten, unstructure
    from ncsnx.config.overrides import split_overrides
    from ncsnx.errors import UsageError
    from ncsnx.jobs.parameter_sweep.axes import parse_axes
    from ncsnx.jobs.parameter_sweep.beginning import ParameterSweep
    from ncsnx.jobs.targets import find_training
    from ncsnx.runs.names import runs_folder

    folder = runs_folder(runs)
    axes, fixed = parse_axes(words)
    if measured := [axis.path for axis in axes if axis.path.partition(".")[0] == "features"]:
        raise UsageError(f"{measured[0]}: runs are compared by the same features, so it takes one value")
    settings, fixed_fields = split_overrides(list(fixed), "features")
    target, _, _ = find_training(typed, folder, None, None)
    origins, default = target.origins, target.experiment.name
    if target.run is not None:
        default = target.run.name
        origins = {path: f"run {default}" for path, _ in flatten(unstructure(target.experiment))}
    sweep = ParameterSweep.of(
        name=default if name is None else name,
        typed=typed,
        base=target.experiment,
        origins=origins,
        where=target.where,
        axes=axes,
        fixed=fixed_fields,
        zipped=zipped,
        seeds=seeds,
        runs_folder=folder,
    )
    return sweep, target, settings
