"""`ncsnx sweep`: one run for each combination of values, trained, scored and compared."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import TRAIN_PANEL, command
from ncsnx.cli.completion import complete_field
from ncsnx.cli.session import Shared, session

if TYPE_CHECKING:
    from ncsnx.config.overrides import Override

SWEEP_PANEL = "Sweep"
COMPARISON_PANEL = "Comparison"


@command("sweep", panel=TRAIN_PANEL, place=15)
def sweep_command(
    context: typer.Context,
    experiment: options.ExperimentOrRun,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIELD=VALUE,VALUE",
            autocompletion=complete_field,
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
            min=1,
            max=1_000,
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
    graphs: options.Graphs = False,
    plain: options.Plain = False,
    checkpointing: options.Checkpointing = False,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            metavar="N",
            min=1,
            max=1024,
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
    digits-width_32-lr_0.001-seed_1234.

    The same command resumes: finished runs are left as they are. A run that fails doesn't end the others. With --gpus
    and under torchrun, each process trains its share of the runs.

    With --fid or --loss the newest checkpoint of each run is scored. A table and a plot in NAME.sweep/ then compare
    the settings, by mean and standard deviation over seeds.
    """
    with session(
        "no step was trained; repeat the command to train",
        verbose=verbose,
        quiet=quiet,
        shared=Shared(gpus=gpus, device=device),
    ) as messages:
        from ncsnx.cli.feature_options import parse_features
        from ncsnx.cli.parameter_sweep import ParameterSweep
        from ncsnx.config.codec import flatten
        from ncsnx.config.converter import unstructure
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.evaluation.measurement_requests import SweepRequest
        from ncsnx.jobs.distance_options import DistanceOptions
        from ncsnx.jobs.sweep_points import LONGEST_SWEEP_NAME, sweep_points
        from ncsnx.jobs.targets import find_training
        from ncsnx.runs.names import check_sweep_name, runs_folder
        from ncsnx.sampling.request import images_at_once

        settings, changes = split_overrides(parse_overrides(values or []), "features")
        if not fid:
            _refuse_idle(settings, n=n, features=features, reference=reference)
        folder = runs_folder(runs)
        target, _, _ = find_training(experiment, folder, None, None)
        sweep_name, origins = target.experiment.name, target.origins
        if target.run is not None:
            sweep_name = target.run.name
            origins = {path: f"run {sweep_name}" for path, _ in flatten(unstructure(target.experiment))}
        sweep_name = check_sweep_name(sweep_name if name is None else name, LONGEST_SWEEP_NAME)
        ParameterSweep(
            name=sweep_name,
            points=sweep_points(sweep_name, target.experiment, origins, changes, zipped=zipped, seeds=seeds),
            target=target,
            folder=folder,
            training=options.training_options(context),
            data=data,
            distance=DistanceOptions(
                features=partial(parse_features, features, settings=settings),
                reference=reference,
                data=data,
                cache=cache,
            )
            if fid
            else None,
            request=SweepRequest(n=1000 if n is None else n, batch_size=images_at_once(target.experiment.data, None)),
            loss=loss,
            messages=messages,
            json=json,
        ).carry_out(dry_run=dry_run)


def _refuse_idle(settings: "list[Override]", **given: object) -> None:
    """Raises UsageError for settings of the features, or options of the score, if no score is asked for."""
    from ncsnx.errors import Hint, UsageError
    from ncsnx.spelling import argument, parameter

    idle = [*(parameter(name) for name, given_value in given.items() if given_value is not None)]
    if idle := [*idle, *(override.path for override in settings)]:
        raise UsageError(f"{idle[0]} is for the score", Hint("compute it", adds=argument("fid")))
