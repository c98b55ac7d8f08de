"""`ncsnx sample`: draws images from a run's checkpoint, or from an exported model."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import command
from ncsnx.cli.parsing import task_options as tasks
from ncsnx.cli.path_parameters import a_folder, a_name_or_path
from ncsnx.cli.session import BATCHES, session
from ncsnx.quantities import counted, number

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.inverse.task import Task
    from ncsnx.sampling.request import SampleRequest
    from ncsnx.sampling.sample_folder import SampleFolder
    from ncsnx.sampling.score_model import ScoreModel
    from ncsnx.stopping import StopRequest

_FAR = 0.05
"""Further from what was given an image isn't for what is left of a level's noise."""


@command("sample", place=50)
def sample_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            parser=a_name_or_path,
            help="A run (its name in the runs folder, or a path), or the folder of an exported model.",
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="sampler.FIELD=VALUE", help="Changes to the sampler.")
    ] = None,
    ckpt: Annotated[
        str | None, typer.Option("--ckpt", help="Of a run: step (150000 or 150k), latest or best. [latest]")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n", help="Number of images; of rows, with --interpolate; of a task, for each picture. [64; of a task 4]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Image i depends on the seed and i alone.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images at once; changes an image by rounding at most.")
    ] = 64,
    interpolate: Annotated[
        int | None, typer.Option("--interpolate", metavar="K", help="Rows of K images that change from left to right.")
    ] = None,
    between: Annotated[
        tuple[int, int] | None,
        typer.Option("--between", metavar="A B", help="Rows from the images of seed A to those of seed B. [one row]"),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="K", help="Images of a row of --between. [8]")] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="F", help="Write F pictures of the annealing.")] = 0,
    film: Annotated[
        bool, typer.Option("--film", help="An animated GIF: of the annealing; of rows, from first image to last.")
    ] = False,
    mp4: Annotated[bool, typer.Option("--mp4", help="The film as an MP4 (takes the extra ncsnx[film]).")] = False,
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
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            parser=a_folder,
            help="Where to. [the run's samples/; of an exported model, ./samples/NAME]",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace samples of another protocol in DIR.")] = False,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    plain: options.Plain = False,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw images: single PNGs, a grid, the tensors, and the protocol that repeats them.

    An interrupted sampling resumes where it stopped when the command is repeated. The sampler can be changed:
    `ncsnx sample digits sampler.steps_per_level=3`; after `ncsnx compare digits`, sampler=fast is the one that it
    recommends. With --interpolate, sampler.denoise=false gives the published
    behaviour.
    """
    with session(BATCHES, verbose=verbose, quiet=quiet) as messages:
        import attrs

        from ncsnx.cli.parsing.sampler_options import with_sampler
        from ncsnx.config.overrides import parse_overrides
        from ncsnx.errors import UsageError, require_between
        from ncsnx.runs.checkpoints.manifest import require_best
        from ncsnx.runs.folder import Run
        from ncsnx.runs.model_source import check_checkpoint, open_source
        from ncsnx.runs.names import runs_folder
        from ncsnx.sampling.request import MOST_SEED, SampleRequest

        place = open_source(runs_folder(runs), run)
        changed = with_sampler(messages, place, parse_overrides(overrides or []))
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
        kind = typed.check()
        if kind is not None and (interpolate or between) is not None:
            raise UsageError(f"--interpolate and --between do not go together with {kind}")
        default = 1 if between is not None else 64 if kind is None else 4
        images = default if n is None else n
        first, other = (seed, None) if between is None else between
        columns = _columns(between, steps, interpolate, seed)
        if between is not None:  # which takes seeds and columns by other names
            require_between("between", first, 0, MOST_SEED)
            require_between("steps", columns or 0, 2, 1_000, " columns")
        request = SampleRequest(
            n=images if kind is None else 1,  # of a task as many as its pictures make
            seed=first,
            batch_size=batch_size,
            interpolate=columns,
            between=other,
            frames=frames,
            film=film or mp4,
            mp4=mp4,
        )
        check_checkpoint(place, ckpt)

        from ncsnx.inverse.task_pictures import range_of
        from ncsnx.runtime import Runtime
        from ncsnx.sampling.sample import count_images
        from ncsnx.sampling.score_model import load
        from ncsnx.stopping import StopRequest

        with StopRequest() as stop:
            with stop.at_once():
                task = typed.task(changed.data, range_of(changed.data, data, place))
            request = attrs.evolve(request, n=count_images(images, task))
            with stop.at_once():
                runtime = Runtime.choose(device=device, threads=threads, plain=plain, compile=compile)
                if ckpt == "best" and isinstance(place, Run):
                    messages.info(f"best: {require_best(place)}")
                model = attrs.evolve(load(place, ckpt, runtime=runtime), experiment=changed)
            output, agreement = _sample(messages, model, request, task, out, data, overwrite, note, stop)
        if json:
            found = {} if agreement is None else {"agreement": agreement}
            messages.json({"folder": str(output.path), **output.protocol, **found})


def _columns(between: tuple[int, int] | None, steps: int | None, interpolate: int | None, seed: int) -> int | None:
    """Of each row, where there are rows. Raises UsageError for options that say two things."""
    from ncsnx.errors import UsageError

    if between is None:
        if steps is not None:
            raise UsageError("--steps goes with --between, which is not given; training steps are in --ckpt")
        return interpolate
    if interpolate is not None or seed != 0:
        other = "--interpolate" if interpolate is not None else "--seed"
        raise UsageError(f"--between names both seeds, and --steps the columns; leave {other} out")
    return 8 if steps is None else steps


def _sample(
    messages: "Messages",
    model: "ScoreModel",
    request: "SampleRequest",
    task: "Task | None",
    out: Path | None,
    data: Path | None,
    overwrite: bool,
    note: str,
    stop: "StopRequest",
) -> "tuple[SampleFolder, dict[str, Any] | None]":
    """The folder, and what task.json says of a task."""
    from ncsnx.inverse.task_drawing import shown_in_words
    from ncsnx.runs.writer_lock import folder_lock
    from ncsnx.sampling.sample import default_folder, open_output

    folder = default_folder(model, request, task) if out is None else out
    output = open_output(folder, model, request, task=task, note=note, overwrite=overwrite)
    alternatives = "" if task is None else f", {request.n // task.count:,} of each of {counted(task.count, 'picture')}"
    what = (
        f"{counted(request.n, 'row')} of {request.columns}"
        if request.interpolate
        else f"{counted(request.n, 'image')}{alternatives}"
    )
    source = f"{model.source.path}, step {model.step:,} ({model.weights}), {model.evaluations_in_words} each"
    if output.complete:
        messages.info(f"{what} from {source}: they are there already")
    else:
        with folder_lock(output.path, str(output.path)):
            output.open()  # another process may have resumed it meanwhile
            missing = len(output.missing())
            again = f", {request.n - missing:,} of them already there" if missing < request.n else ""
            messages.info(f"{what}{again}, from {source}, on {model.runtime.device}")
            _fill(messages, output, model, request, task, data, stop)
    messages.info(f"images: {output.path / 'images'}")
    left_out = None if task is None else shown_in_words(task, request.n // task.count)
    messages.info(f"grid:   {output.path / 'grid.png'}{f' ({left_out} only)' if left_out else ''}")
    if output.protocol["film"]:
        messages.info(f"film:   {output.film_path}")
    return output, None if task is None else _agreement(messages, output, task)


def _agreement(messages: "Messages", output: "SampleFolder", task: "Task") -> dict[str, Any]:
    """How well the images agree with what was given and with the truth: said, shown in the grid, and recorded."""
    from ncsnx.inverse.task_drawing import psnr_in_words
    from ncsnx.inverse.task_record import record_task
    from ncsnx.storage.documents.document import document_values

    record = record_task(task, output.path, output.samples_path)
    agreement = f"the images agree with what was given to {number(record.misfit)}, where black is 0 and white 1"
    if record.misfit > _FAR + 6 * task.noise:
        messages.warning(f"{agreement}: none between those does better; are its values right, or is --noise missing?")
    else:
        messages.info(agreement)
    for found in record.pictures:
        if found.psnr:
            mean, one = (psnr_in_words(found.psnr[f"psnr_of_{which}"]) for which in ("mean", "one"))
            messages.info(f"{found.picture}: PSNR {mean} of the mean, {one} of one")
    return document_values(record)


def _fill(
    messages: "Messages",
    output: "SampleFolder",
    model: "ScoreModel",
    request: "SampleRequest",
    task: "Task | None",
    data: Path | None,
    stop: "StopRequest",
) -> None:
    """Makes what is missing, with progress."""
    from ncsnx.console.progress import progress
    from ncsnx.sampling.generate import indices_per_batch
    from ncsnx.sampling.sample import fill

    batches = math.ceil(len(output.missing()) / indices_per_batch(request.batch_size, request.columns))
    with progress(messages, "sampling", total=batches * model.states, unit="states") as advance:
        taken = fill(output, model, request, task=task, data=data, check_stop=stop.check, progress=advance)
    if batches and model.evaluations is None:
        messages.info(f"{counted(taken, 'evaluation')} each, in the mean over what was made now")
    images = request.n * request.columns
    with progress(messages, "writing pictures", total=images, unit="images") as advance:
        output.finish(stop.check, advance)
