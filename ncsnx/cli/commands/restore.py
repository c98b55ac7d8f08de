"""`ncsnx restore`: draws images that agree with a measurement, such as a part of a picture."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import TRAIN_PANEL, command
from ncsnx.cli.parsing import task_options as tasks
from ncsnx.cli.session import BATCHES, Shared, session, work_of
from ncsnx.quantities import counted, number

if TYPE_CHECKING:
    from collections.abc import Callable

    from ncsnx.console.messages import Messages
    from ncsnx.inverse.task import Task
    from ncsnx.sampling.sample_folder import SampleFolder

_MOST_MISFIT = 0.05
"""Maximum misfit explained by residual noise of the last level, without noise of the measurement."""


@command("restore", panel=TRAIN_PANEL, place=30)
def restore_command(
    context: typer.Context,
    run: options.ModelName,
    overrides: options.SamplerChanges = None,
    inpaint: tasks.Inpaint = None,
    mask: tasks.Mask = None,
    outpaint: tasks.Outpaint = None,
    at: tasks.At = None,
    super_resolve: tasks.SuperResolve = None,
    factor: tasks.Factor = None,
    colorize: tasks.Colorize = None,
    deblur: tasks.Deblur = None,
    blur: tasks.Blur = None,
    measure: tasks.MeasureFile = None,
    operator: tasks.Operator = None,
    input: tasks.Input = None,
    noise: tasks.NoiseDeviation = None,
    truth: tasks.Truth = None,
    ckpt: options.ModelCheckpoint = None,
    n: Annotated[
        int, typer.Option("--n", metavar="N", help="Images per picture.", rich_help_panel=options.IMAGES_PANEL)
    ] = 4,
    seed: options.SampleSeed = 0,
    frames: options.Frames = 0,
    film: Annotated[
        bool,
        typer.Option("--film", help="Write an animated GIF of the sampling.", rich_help_panel=options.FILMS_PANEL),
    ] = False,
    mp4: options.Mp4 = False,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    gpus: options.Gpus = None,
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.EvaluationGraphs = None,
    plain: options.Plain = False,
    precision: options.PrecisionName = None,
    out: options.SamplesFolder = None,
    overwrite: options.Overwrite = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Inpaint, outpaint, enlarge, colorize or deblur pictures.

    Draws several images for each picture, all of which agree with it: `ncsnx restore digits --inpaint photo.png --mask
    mask.png`. A PICTURE is a file or a folder of files: images such as PNGs, or .npy files of H×W×C numbers with any
    number of channels, in the data's own values (see --measure).

    Writes what `ncsnx sample` writes, a grid with the given picture, the images, their mean and their spread, and how
    well the images agree with the picture. An interrupted sampling resumes when the command is repeated.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet, shared=Shared(gpus=gpus, device=device)) as messages:
        import attrs

        from ncsnx.cli.parsing.sampler_options import with_sampler
        from ncsnx.config.overrides import parse_overrides
        from ncsnx.runs.model_source import check_checkpoint, open_source
        from ncsnx.runs.names import runs_folder
        from ncsnx.sampling.request import SampleRequest, images_at_once

        source = open_source(runs_folder(runs), run, work_of(messages))
        experiment = messages.ranks.first(lambda: with_sampler(messages, source, parse_overrides(overrides or [])))
        typed = tasks.TaskOptions(
            inpaint=inpaint,
            mask=mask,
            outpaint=outpaint,
            at=at,
            super_resolve=super_resolve,
            factor=factor,
            colorize=colorize,
            deblur=deblur,
            blur=blur,
            measure=measure,
            operator=operator,
            input=input,
            noise=noise,
            truth=truth,
        )
        typed.check()
        at_once = images_at_once(experiment.data, batch_size)
        request = SampleRequest(seed=seed, batch_size=at_once, frames=frames, film=film or mp4, mp4=mp4)
        check_checkpoint(source, ckpt)

        from ncsnx.cli.sample_drawing import FolderDrawing, load_model
        from ncsnx.inverse.task_pictures import range_of
        from ncsnx.sampling.sample import count_images
        from ncsnx.stopping import StopRequest

        with StopRequest() as stop:
            with stop.at_once():
                task = typed.task(experiment.data, range_of(experiment.data, data, source))
                _ = task.protocol  # reads all pictures
            count = count_images(n, task)
            request = attrs.evolve(request, n=count, batch_size=messages.ranks.batch_size(count, request.batch_size))
            with stop.at_once():
                runtime = options.weights_runtime(context, experiment, messages.ranks)
                model = load_model(messages, source, experiment, ckpt, runtime)
            drawing = FolderDrawing(
                model=model,
                request=request,
                task=task,
                images=f"{counted(request.n, 'image')}, {n:,} for each of {counted(task.count, 'picture')}",
                out=out,
                data=data,
                overwrite=overwrite,
                note=note,
            )
            output = drawing.carry_out(messages, stop)
            if output is None:  # on ranks other than 0
                return
            agreement = _agreement(messages, output, task, stop.check)
        if json:
            messages.json({"folder": str(output.path), **output.protocol, "agreement": agreement})


def _agreement(
    messages: "Messages", output: "SampleFolder", task: "Task", check_stop: "Callable[[], None]"
) -> dict[str, Any]:
    """Reports, draws into the grid and records how well the images agree with the measurement and with the truth."""
    from ncsnx.inverse.task_drawing import psnr_in_words
    from ncsnx.inverse.task_record import record_task
    from ncsnx.storage.documents.document import document_values

    record = record_task(task, output.path, output.samples_path, check_stop)
    misfit = f"maximum misfit to the measurement: {number(record.misfit)}, where black is 0 and white 1"
    if record.misfit > _MOST_MISFIT + 6 * task.noise:
        messages.warning(
            f"{misfit}\nno image with values from black to white agrees better\n"
            "check the values of the measurement; if it is noisy, say how much with --noise"
        )
    else:
        messages.info(misfit)
    for found in record.pictures:
        if found.psnr:
            mean, one = (psnr_in_words(found.psnr[f"psnr_of_{which}"]) for which in ("mean", "one"))
            messages.info(f"{found.picture}: PSNR {mean} of the mean image, {one} of a single image on average")
    return document_values(record)
