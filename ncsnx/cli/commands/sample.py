"""`ncsnx sample`: draws images from a run's checkpoint, or from an exported model."""

from typing import Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import TRAIN_PANEL, command
from ncsnx.cli.session import BATCHES, Shared, session
from ncsnx.console.working import work_of
from ncsnx.quantities import counted

_ROWS = "Rows between images"


@command("sample", panel=TRAIN_PANEL, place=20)
def sample_command(
    context: typer.Context,
    run: options.ModelName,
    overrides: options.SamplerChanges = None,
    ckpt: options.ModelCheckpoint = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            metavar="N",
            help="Number of images; of rows, with --interpolate or --between.",
            show_default="64; 1 with --between",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = None,
    size: options.ImagesSize = None,
    seed: options.SampleSeed = 0,
    start: options.StartPicture = None,
    start_sigma: options.StartSigma = None,
    interpolate: Annotated[
        int | None,
        typer.Option(
            "--interpolate",
            metavar="K",
            help="Draw rows of K images that change gradually from the first to the last.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    between: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--between",
            metavar="A B",
            help="Draw rows from the images of seed A to those of seed B.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="K", help="Images per row of --between.", show_default="8", rich_help_panel=_ROWS
        ),
    ] = None,
    frames: options.Frames = 0,
    film: Annotated[
        bool,
        typer.Option(
            "--film",
            help="Write an animated GIF of the sampling; of rows, from the first image to the last.",
            rich_help_panel=options.FILMS_PANEL,
        ),
    ] = False,
    mp4: options.Mp4 = False,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    gpus: options.Gpus = None,
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.EvaluationGraphs = False,
    plain: options.Plain = False,
    precision: options.PrecisionName = None,
    out: options.SamplesFolder = None,
    overwrite: options.Overwrite = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw images from a run or an exported model.

    Writes single PNGs, a grid, the tensors, and the protocol that reproduces them. An interrupted sampling resumes when
    the command is repeated.

    sampler.FIELD=VALUE changes the sampler: `ncsnx sample digits sampler.steps_per_level=3`. After `ncsnx compare
    digits`, sampler=fast is the sampler that it recommends. With --interpolate, sampler.denoise=false gives the
    published behaviour. For images that agree with a picture, see `ncsnx restore`.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet, shared=Shared(gpus=gpus, device=device)) as messages:
        import attrs

        from ncsnx.config.overrides import parse_overrides
        from ncsnx.errors import require_between
        from ncsnx.jobs.sampler_choice import with_sampler
        from ncsnx.jobs.start_choice import StartOptions
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.selection import check_checkpoint, open_source
        from ncsnx.sampling.request import MOST_SEED, SampleRequest, images_at_once

        source = open_source(runs_folder(runs), run, work_of(messages))
        experiment = messages.ranks.first(
            lambda: with_sampler(work_of(messages), source, parse_overrides(overrides or []))
        )
        first, other = (seed, None) if between is None else between
        columns = _columns(between, steps, interpolate, seed)
        if between is not None:  # which takes seeds and columns by other names
            require_between("between", first, 0, MOST_SEED)
            require_between("steps", columns or 0, 2, 1_000, " columns")
        request = SampleRequest(
            n=n if n is not None else 64 if between is None else 1,
            seed=first,
            batch_size=images_at_once(experiment.data, batch_size, size),
            interpolate=columns,
            between=other,
            frames=frames,
            film=film or mp4,
            mp4=mp4,
        )
        images, per_batch = request.n * request.columns, request.batch_size
        request = attrs.evolve(request, batch_size=messages.ranks.batch_size(images, per_batch))
        messages.ranks.first(lambda: check_checkpoint(source, ckpt))
        beginning = StartOptions(sigma=start_sigma, image=start)
        beginning.check(measured=False)

        from ncsnx.inverse.values import range_of
        from ncsnx.jobs.sample_drawing import FolderDrawing, load_model
        from ncsnx.sampling.drawing import Drawing
        from ncsnx.stopping import StopRequest

        with StopRequest() as stop:
            with stop.at_once():
                runtime = options.weights_runtime(context, experiment, messages.ranks)
                model = load_model(work_of(messages), source, experiment, ckpt, runtime, size)
                model = beginning.applied(model, None, range_of(experiment.data, data, source))
            drawing = FolderDrawing(
                drawing=Drawing(model=model, request=request, data=data),
                images=f"{counted(request.n, 'row')} of {columns}" if columns else counted(request.n, "image"),
                out=out,
                overwrite=overwrite,
                note=note,
            )
            output = drawing.carry_out(work_of(messages, stop))
        if output is None:  # on ranks other than 0
            return
        if json:
            messages.json({"folder": str(output.path), **output.protocol})


def _columns(between: tuple[int, int] | None, steps: int | None, interpolate: int | None, seed: int) -> int | None:
    """Images per row; None without rows. Raises UsageError for options that contradict each other."""
    from ncsnx.errors import UsageError

    if between is None:
        if steps is not None:
            raise UsageError("--steps goes with --between, which is not given; training steps are in --ckpt")
        return interpolate
    if interpolate is not None or seed != 0:
        other = "--interpolate" if interpolate is not None else "--seed"
        raise UsageError(f"--between names both seeds, and --steps the columns; leave {other} out")
    return 8 if steps is None else steps
