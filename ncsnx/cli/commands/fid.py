"""`ncsnx fid`: scores the checkpoints of a run by the distance of their images to real ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import command
from ncsnx.cli.session import BATCHES, session

if TYPE_CHECKING:
    from ncsnx.evaluation.sweeps.distance_sweep import DistanceSweep
    from ncsnx.metrics.metric import Metric
    from ncsnx.work import Work


@command("fid", place=60)
def fid_command(
    run: options.RunName,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="sampler.FIELD=VALUE", help="Changes to the sampler; features.FIELD=VALUE to those."),
    ] = None,
    range_: options.Range = "all",
    n: Annotated[int, typer.Option("--n", help="Images of each checkpoint.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="The same images' noise for every checkpoint.")] = 0,
    features: options.FeaturesTag = None,
    reference: options.ReferenceSet = None,
    ensemble: Annotated[
        int,
        typer.Option("--ensemble", metavar="K", help="Average the scores of the last K checkpoints; runs without EMA."),
    ] = 1,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="TAG,…",
            help="What else to show: all, or some of precision-recall, density-coverage, inception-score and the "
            "metrics of installed packages.",
        ),
    ] = "",
    precision_recall: Annotated[
        bool, typer.Option("--precision-recall", help="As --metrics precision-recall.")
    ] = False,
    inception_score: Annotated[bool, typer.Option("--inception-score", help="As --metrics inception-score.")] = False,
    keep_images: Annotated[bool, typer.Option("--keep-images", help="Write every image as a PNG.")] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images at once; changes an image by rounding at most.")
    ] = 64,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    cache: options.Cache = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    plain: options.Plain = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Score checkpoints: Fréchet and kernel distance of sampled images to real ones; table, plot, and the best.

    Beside them stands what a perfect model would score: real images in the place of sampled ones.
    With Inception's features these are FID and KID. Scores are kept in the run's fid/ by the weights and the protocol:
    an interrupted sweep resumes where it stopped, and a wider range computes only what is new. Afterwards `--ckpt best`
    means the best of the newest sweep with the most images.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.cli.parsing.sampler_options import FAST_OVERRIDE, with_sampler
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.evaluation.sweeps.sweep_request import SweepRequest
        from ncsnx.runs.checkpoints.ranges import select
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder

        place = open_run(runs_folder(runs), run)
        settings, others = split_overrides(parse_overrides(overrides or []), "features")
        experiment = with_sampler(messages, place, others)
        request = SweepRequest(n=n, seed=seed, batch_size=batch_size, ensemble=ensemble, keep_images=keep_images)
        selection = select(place, range_)

        from ncsnx.cli.parsing.distance_options import DistanceOptions
        from ncsnx.cli.sweeps import sweep_checkpoints
        from ncsnx.evaluation.comparing.agreement import agreement_in_words
        from ncsnx.evaluation.sweeps.distance_sweep import DistanceSweep
        from ncsnx.runtime import Runtime

        requested = _requested(metrics, precision_recall=precision_recall, inception_score=inception_score)
        distance = DistanceOptions(features, settings, reference, data, cache)

        def build(work: "Work") -> DistanceSweep:
            runtime = Runtime.choose(device=device, threads=threads, plain=plain, compile=compile)
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
                "fewer images (--n), fewer checkpoints (a third part of --range), fewer evaluations an image (`ncsnx "
                "compare` finds a sampler), larger batches (--batch-size), or a GPU (--device cuda)"
            ),
            json=json,
            ensemble=ensemble,
            closing=lambda sweep: [agreement_in_words(sweep)] if FAST_OVERRIDE in others else [],
        )


def _requested(typed: str, *, precision_recall: bool, inception_score: bool) -> "list[Metric] | None":
    """The metrics that are to be shown beside the distances; None: all that there are. Raises UsageError."""
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
