"""`ncsnx restore`: draws images that agree with a measurement, such as a part of a picture."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli import task_options as tasks
from ncsnx.cli.command_registry import TRAIN_PANEL, command
from ncsnx.cli.session import BATCHES, Shared, session
from ncsnx.console.working import work_of

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.inverse.calibration import Calibration


@command("restore", panel=TRAIN_PANEL, place=30)
def restore_command(
    context: typer.Context,
    run: options.ModelName,
    overrides: options.SamplerChanges = None,
    inpaint: tasks.Inpaint = None,
    mask: tasks.Mask = None,
    fit: tasks.FitPictures = False,
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
    maps: tasks.Maps = None,
    centred: tasks.Centred = None,
    rule: tasks.Rule = None,
    noise: tasks.NoiseDeviation = None,
    truth: tasks.Truth = None,
    ckpt: options.ModelCheckpoint = None,
    n: Annotated[
        int, typer.Option("--n", metavar="N", help="Images per picture.", rich_help_panel=options.IMAGES_PANEL)
    ] = 4,
    size: options.ImagesSize = None,
    seed: options.SampleSeed = 0,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="PICTURE|adjoint",
            help="With --start-sigma: the picture that images start from, a file or a folder; adjoint is an image of "
            "the measurement alone.",
            show_default="adjoint",
            rich_help_panel=options.IMAGES_PANEL,
        ),
    ] = None,
    start_sigma: options.StartSigma = None,
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
    """Inpaint, enlarge, colorize, deblur or reconstruct pictures.

    Draws several images for each picture, all of which agree with it: `ncsnx restore digits --inpaint photo.png --mask
    mask.png`. A PICTURE is a file or a folder of files: images such as PNGs, or .npy files of H×W×C numbers with any
    number of channels, in the data's own values (see --measure), or of complex H×W for a model of complex data. One
    .npy may hold several pictures, P×H×W or P×H×W×C.

    Draws by 100 steps of cas, which reaches the posterior, unless the sampler is changed: sampler=ald takes
    the published one of a run that has it.

    Writes what `ncsnx sample` writes, a grid with the given picture, the images, their mean and their spread, maps of
    mean, deviation and quantiles, and how well the images agree with the picture; with --truth also PSNR, SSIM,
    NMSE and calibration. An interrupted sampling resumes when the command is repeated.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet, shared=Shared(gpus=gpus, device=device)) as messages:
        from ncsnx.config.overrides import parse_overrides
        from ncsnx.jobs.sampler_choice import with_restoring_sampler
        from ncsnx.jobs.start_choice import StartOptions
        from ncsnx.jobs.task_choice import TaskOptions, mask_of
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.selection import check_checkpoint, open_source
        from ncsnx.sampling.request import SampleRequest, images_at_once, shape_at

        source = open_source(runs_folder(runs), run, work_of(messages))
        experiment = messages.ranks.first(
            lambda: with_restoring_sampler(work_of(messages), source, parse_overrides(overrides or []), rule)
        )
        chosen = TaskOptions(
            inpaint=inpaint,
            mask=mask_of(mask),
            fit=fit or None,
            outpaint=outpaint,
            at=at,
            super_resolve=super_resolve,
            factor=factor,
            colorize=colorize,
            deblur=deblur,
            blur=blur,
            measure=measure,
            maps=maps,
            centred=centred,
            rule=rule,
            operator=operator,
            input=input,
            noise=noise,
            truth=truth,
        )
        chosen.check(bounded=experiment.data.is_bounded)
        beginning = StartOptions(sigma=start_sigma, image=start)
        beginning.check(measured=True)
        at_once = images_at_once(experiment.data, batch_size, size)
        request = SampleRequest(seed=seed, batch_size=at_once, frames=frames, film=film or mp4, mp4=mp4)
        messages.ranks.first(lambda: check_checkpoint(source, ckpt))

        from ncsnx.inverse.values import range_of
        from ncsnx.jobs.restoration_job import RestorationJob, carry_out_restoration
        from ncsnx.jobs.task_building import build_task, result_range
        from ncsnx.stopping import StopRequest
        from ncsnx.storage.documents import document_values

        values = range_of(experiment.data, data, source)
        job = RestorationJob(
            source=source,
            experiment=experiment,
            ckpt=ckpt,
            task=lambda: build_task(chosen, experiment.data, values, shape_at(experiment.data, size)),
            values=result_range(chosen, values),
            start=lambda model, task: beginning.applied(model, task, values),
            n=n,
            size=size,
            request=request,
            runtime=lambda: options.weights_runtime(context, experiment, messages.ranks),
            out=out,
            data=data,
            overwrite=overwrite,
            note=note,
        )
        with StopRequest() as stop:
            restored = carry_out_restoration(job, work_of(messages, stop), stop)
        if json and restored is not None:  # on rank 0
            output = restored.output
            agreement = document_values(restored.record)
            messages.json({"folder": str(output.path), **output.protocol, "agreement": agreement})
        elif restored is not None and restored.record.calibration is not None:
            _show(restored.record.calibration, messages)


def _show(calibration: "Calibration", messages: "Messages") -> None:
    from ncsnx.console.tables import Column, table
    from ncsnx.inverse.calibration import CALIBRATION_TITLES, calibration_rows

    table(messages, [Column(title, "right") for title in CALIBRATION_TITLES], calibration_rows(calibration))
