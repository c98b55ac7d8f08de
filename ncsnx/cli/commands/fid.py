"""`ncsnx fid`: scores the checkpoints of a run by the distance of their images to real images."""

from functools import partial
from typing import Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import EVALUATE_PANEL, command
from ncsnx.cli.session import BATCHES, Shared, session
from ncsnx.console.working import work_of

_SHORTER = (
    "fewer images (--n), fewer checkpoints (a third part of --range), fewer evaluations per image (`ncsnx compare` "
    "finds a sampler), larger batches (--batch-size), or a GPU (--device cuda)"
)


@command("fid", panel=EVALUATE_PANEL, place=40)
def fid_command(
    context: typer.Context,
    run: options.RunName,
    overrides: options.SamplerAndFeatureChanges = None,
    range_: options.Range = "all",
    n: Annotated[
        int, typer.Option("--n", metavar="N", help="Images per checkpoint.", rich_help_panel=options.IMAGES_PANEL)
    ] = 1000,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="SEED",
            help="Determines the noise of the images, the same for every checkpoint.",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = 0,
    features: options.FeaturesTag = None,
    reference: options.ReferenceSet = None,
    ensemble: Annotated[
        int,
        typer.Option(
            "--ensemble",
            metavar="K",
            help="Average the scores of the last K checkpoints, for runs without EMA.",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = 1,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="TAG,…",
            help="Further metrics: all, or some of precision-recall, density-coverage, inception-score and the metrics "
            "of installed packages.",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = "",
    precision_recall: Annotated[
        bool,
        typer.Option(
            "--precision-recall", help="Same as --metrics precision-recall.", rich_help_panel=options.MEASUREMENT_PANEL
        ),
    ] = False,
    inception_score: Annotated[
        bool,
        typer.Option(
            "--inception-score", help="Same as --metrics inception-score.", rich_help_panel=options.MEASUREMENT_PANEL
        ),
    ] = False,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    cache: options.Cache = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    gpus: options.Gpus = None,
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.EvaluationGraphs = False,
    plain: options.Plain = False,
    precision: options.PrecisionName = None,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Write every image as a PNG.", rich_help_panel=options.OUTPUT_PANEL)
    ] = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Score checkpoints by FID and KID, and find the best.

    Compares features of sampled images with features of real images. With Inception's features, the Fréchet and the
    kernel distance are FID and KID. The table also shows what a perfect model would score: real images in place of
    sampled ones.

    Scores are kept in the run's fid/ by weights and protocol. An interrupted sweep resumes where it stopped, and a
    wider range measures only the new checkpoints. Afterwards `--ckpt best` means the best checkpoint of the newest
    sweep with the most images.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet, shared=Shared(gpus=gpus, device=device)) as messages:
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.evaluation.measurement_requests import SweepRequest
        from ncsnx.jobs.sampler_choice import with_sampler
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.selection import select
        from ncsnx.sampling.request import images_at_once

        place = open_run(runs_folder(runs), run)
        settings, others = split_overrides(parse_overrides(overrides or []), "features")
        experiment = messages.ranks.first(lambda: with_sampler(work_of(messages), place, others))
        at_once = messages.ranks.batch_size(n, images_at_once(experiment.data, batch_size))
        request = SweepRequest(n=n, seed=seed, batch_size=at_once, ensemble=ensemble, keep_images=keep_images)
        selection = messages.ranks.first(lambda: select(place, range_))

        from ncsnx.cli.feature_options import parse_features
        from ncsnx.cli.sweeps import show_sweep
        from ncsnx.jobs.distance_options import DistanceOptions
        from ncsnx.jobs.scoring_job import ScoringJob, carry_out_scoring
        from ncsnx.stopping import StopRequest

        job = ScoringJob(
            run=place,
            experiment=experiment,
            selection=selection,
            request=request,
            distance=DistanceOptions(
                features=partial(parse_features, features, settings=settings),
                reference=reference,
                data=data,
                cache=cache,
            ),
            metrics=_tags(metrics, precision_recall=precision_recall, inception_score=inception_score),
            runtime=lambda: options.weights_runtime(context, experiment, messages.ranks),
            note=note,
        )
        with StopRequest() as stop:
            measured = carry_out_scoring(job, work_of(messages, stop), _SHORTER)
        if measured is None:  # on ranks other than 0
            return
        show_sweep(messages, measured, json=json)


def _tags(typed: str, *, precision_recall: bool, inception_score: bool) -> list[str] | None:
    """Tags of the metrics to show beside the distances; None: all."""
    if typed == "all":
        return None
    tags = [tag.strip() for tag in typed.split(",") if tag.strip()]
    return tags + ["precision-recall"] * precision_recall + ["inception-score"] * inception_score
