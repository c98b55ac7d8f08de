"""`ncsnx neighbors`: the training images nearest to samples, and whether the samples are copies of them."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import EVALUATE_PANEL, command
from ncsnx.cli.parameters import a_file_behind_tag
from ncsnx.cli.session import BATCHES, Shared, session
from ncsnx.console.working import work_of

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.evaluation.measurement_requests import NeighborsRequest
    from ncsnx.evaluation.neighbor_search import NeighborSearch
    from ncsnx.jobs.distance_options import DistanceOptions
    from ncsnx.runs.folder import Run
    from ncsnx.runtime import Runtime
    from ncsnx.work import Work

NO_FEATURES = "none"


@command("neighbors", panel=EVALUATE_PANEL, place=80)
def neighbors_command(
    context: typer.Context,
    run: options.RunName,
    overrides: options.SamplerAndFeatureChanges = None,
    ckpt: options.CheckpointStep = "latest",
    n: Annotated[
        int, typer.Option("--n", metavar="N", help="Number of samples.", rich_help_panel=options.IMAGES_PANEL)
    ] = 64,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="SEED",
            help="Sample i is image i of this seed, as `ncsnx sample` draws it.",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = 0,
    k: Annotated[
        int,
        typer.Option(
            "--k", metavar="K", help="Neighbours shown per sample.", rich_help_panel=options.MEASUREMENT_PANEL
        ),
    ] = 5,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="TAG[:FILE]",
            parser=a_file_behind_tag,
            help="inception, inception:FILE, torchscript:FILE, classifier, or none for pixels alone. "
            f"{options.FILES_RUN_CODE}",
            show_default="classifier for digits, else inception",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = None,
    flips: Annotated[
        bool | None,
        typer.Option(
            "--flips/--no-flips",
            help="Whether mirror images of training images count.",
            show_default="as in training",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = None,
    held_out: Annotated[
        int,
        typer.Option(
            "--held-out",
            metavar="M",
            help="Held-out images to compare the samples with, at most.",
            rich_help_panel=options.MEASUREMENT_PANEL,
        ),
    ] = 1000,
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
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the training images nearest to samples; detect copies.

    Searches in pixels and in features. The distances of samples to their nearest training images are compared with the
    distances of held-out images: samples of a model that reproduces training images are nearer, and to single ones. The
    run's neighbors/ gets a grid of samples with their neighbours, all distances, their distributions, and the numbers.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet, shared=Shared(gpus=gpus, device=device)) as messages:
        from ncsnx.config.overrides import parse_overrides, split_overrides
        from ncsnx.jobs.sampler_choice import with_sampler
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.selection import check_checkpoint
        from ncsnx.sampling.request import SampleRequest, images_at_once

        place = open_run(runs_folder(runs), run)
        settings, others = split_overrides(parse_overrides(overrides or []), "features")
        experiment = messages.ranks.first(lambda: with_sampler(work_of(messages), place, others))
        at_once = images_at_once(experiment.data, batch_size)
        SampleRequest(n=n, seed=seed, batch_size=at_once)  # checks them before torch is imported
        at_once = messages.ranks.batch_size(n, at_once)
        messages.ranks.first(lambda: check_checkpoint(place, ckpt))

        from ncsnx.cli.feature_options import parse_features
        from ncsnx.errors import UsageError
        from ncsnx.evaluation.measurement_requests import NeighborsRequest
        from ncsnx.jobs.distance_options import DistanceOptions
        from ncsnx.stopping import StopRequest

        request = NeighborsRequest(n=n, k=k, seed=seed, batch_size=at_once, held_out=held_out, flips=flips)
        in_pixels_alone = features == NO_FEATURES
        if in_pixels_alone and settings:
            raise UsageError(f"{settings[0].path}: --features none has no settings; leave one of them out")
        chosen = partial(parse_features, features, settings=settings)
        distance = DistanceOptions(features=chosen, reference=None, data=data, cache=cache)
        with StopRequest() as stop:
            work = work_of(messages, stop)
            with stop.at_once():
                runtime = options.weights_runtime(context, experiment, messages.ranks)
                search = _search(place, experiment, ckpt, request, distance, in_pixels_alone, runtime, work)
            messages.info(f"{place.path}: {search.caption()}")
            results = search.carry_out(work)
        if results is None:  # on ranks other than 0
            return
        if json:
            messages.json(results)
        else:
            _show(messages, results)
        _conclude(messages, search, results)


def _search(
    place: "Run",
    experiment: "Experiment",
    ckpt: str,
    request: "NeighborsRequest",
    distance: "DistanceOptions",
    in_pixels_alone: bool,
    runtime: "Runtime",
    work: "Work",
) -> "NeighborSearch":
    import attrs

    from ncsnx.data.download import DownloadError
    from ncsnx.errors import Hint
    from ncsnx.evaluation.neighbor_search import NeighborSearch
    from ncsnx.runs.score_files import require_best
    from ncsnx.runs.selection import check_checkpoint
    from ncsnx.sampling.score_model import load

    step = work.ranks.first(lambda: check_checkpoint(place, ckpt))
    if ckpt == "best":
        work.info(f"best: {work.ranks.first(lambda: require_best(place))}")
    source = distance.open_data(place, work)
    search = NeighborSearch(
        model=attrs.evolve(load(place, step, runtime=runtime), experiment=experiment),
        folder=place.neighbors,
        source=source,
        features=None,
        request=request,
        data=distance.data,
    )  # checks what can be checked before a classifier is trained
    if in_pixels_alone:
        return search
    try:
        return attrs.evolve(search, features=distance.open_features(source, experiment, runtime, work))
    except DownloadError as error:
        raise DownloadError(
            error.message, *error.hints, Hint("or search in pixels alone", adds="--features none")
        ) from error


def _show(messages: "Messages", results: "dict[str, Any]") -> None:
    from ncsnx.console.tables import Column, table
    from ncsnx.quantities import number, percent

    def share(found: dict[str, float]) -> str:
        return f"{percent(found['value'])} ({percent(found['low'])} to {percent(found['high'])})"

    is_compared = results["verdict"] is not None
    rows = []
    for space, measures in results["spaces"].items():
        for measure, one in measures.items():
            row = [space if measure == "distance" else f"{space}, relative", number(one["median"])]
            if is_compared:
                row += [number(one["held_out_median"]), percent(one["nearer"]), share(one["near"])]
            rows.append(row)
    titles = ["nearest, in the median", "samples"]
    if is_compared:
        titles += ["held out", "nearer than a held-out image", "than all but 5 % of them"]
    table(messages, [Column(titles[0]), *(Column(title, "right") for title in titles[1:])], rows)


def _conclude(messages: "Messages", search: "NeighborSearch", results: "dict[str, Any]") -> None:
    if results["verdict"] is None:
        messages.warning("the data set has no held-out images to compare with, so look at the grid for copies")
    else:
        messages.info(f"verdict: {results['verdict']['words']}")
    messages.info(f"grid: {search.place / 'grid.png'}; distances.csv; plot: distances.png, .svg; results.json")
