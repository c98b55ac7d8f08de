"""`ncsnx fid`: scores the checkpoints of a run by the distance of their images to real images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import EVALUATE_PANEL, command
from ncsnx.cli.session import BATCHES, Shared, session

if TYPE_CHECKING:
    from ncsnx.evaluation.sweeps.distance_sweep import DistanceSweep
    from ncsnx.metrics.metric import Metric
    from ncsnx.work import Work


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
    graphs: options.EvaluationGraphs = None,
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
        from ncsnx.cli.parsing.sampler_options import FAST_OVERRIDE, with_sampler
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.evaluation.sweeps.sweep_request import SweepRequest
        from ncsnx.runs.checkpoints.ranges import select
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.sampling.request import images_at_once

        place = open_run(runs_folder(runs), run)
        settings, others = split_overrides(parse_overrides(overrides or []), "features")
        experiment = messages.ranks.first(lambda: with_sampler(messages, place, others))
        at_once = messages.ranks.batch_size(n, images_at_once(experiment.data, batch_size))
        request = SweepRequest(n=n, seed=seed, batch_size=at_once, ensemble=ensemble, keep_images=keep_images)
        selection = messages.ranks.first(lambda: select(place, range_))

        from ncsnx.cli.parsing.distance_options import DistanceOptions
        from ncsnx.cli.sweeps import sweep_checkpoints
        from ncsnx.evaluation.comparing.agreement import agreement_in_words
        from ncsnx.evaluation.sweeps.distance_sweep import DistanceSweep

        requested = _requested(metrics, precision_recall=precision_recall, inception_score=inception_score)
        distance = DistanceOptions(features, settings, reference, data, cache)

        def build(work: "Work") -> DistanceSweep:
            runtime = options.weights_runtime(context, experiment, messages.ranks)
            _, network, compared = distance.open(place, experiment, runtime, work)
            sweep = DistanceSweep(
                run=place,
                experiment=experiment,
                features=network,
                reference=compared,
                perfect_model=compared.perfect_model(request.n, work),
                request=request,
                runtime=runtime,
                data=data,
                requested=requested,
                note=note,
            )
            _refuse(sweep, requested)
            return sweep

        sweep_checkpoints(
            messages,
            place,
            selection,
            build,
            shorter=(
                "fewer images (--n), fewer checkpoints (a third part of --range), fewer evaluations per image (`ncsnx "
                "compare` finds a sampler), larger batches (--batch-size), or a GPU (--device cuda)"
            ),
            json=json,
            ensemble=ensemble,
            closing=lambda sweep: [agreement_in_words(sweep)] if FAST_OVERRIDE in others else [],
        )


def _requested(typed: str, *, precision_recall: bool, inception_score: bool) -> "list[Metric] | None":
    """The metrics to show beside the distances; None: all. Raises UsageError."""
    from ncsnx.config.checks import quoted
    from ncsnx.config.variants import load_plugins
    from ncsnx.errors import UsageError
    from ncsnx.metrics.metric import all_metrics

    if typed == "all":
        return None
    load_plugins("ncsnx.runtime")
    known = {one.tag: one for one in all_metrics()}
    tags = [tag.strip() for tag in typed.split(",") if tag.strip()]
    tags += ["precision-recall"] * precision_recall + ["inception-score"] * inception_score
    for tag in tags:
        if tag not in known:
            raise UsageError(f"--metrics {quoted(tag)}: expected all, or some of {', '.join(known)}")
    return [known[tag] for tag in tags]


def _refuse(sweep: "DistanceSweep", requested: "Sequence[Metric] | None") -> None:
    """Raises UsageError for a metric that can't be measured with these images."""
    from ncsnx.errors import UsageError

    for metric in requested or ():
        if (refusal := sweep.refusal(metric)) is not None:
            raise UsageError(f"{refusal}; leave it out, or choose other images by --reference or --features")
