"""`ncsnx sample`: draws images from a run's checkpoint, or from an exported model."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.session import session

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.sampling import SampleFolder, SampleRequest, ScoreModel
    from ncsnx.stopping import StopRequest


def sample_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run (its name in the runs folder, or a path), or the folder of an exported model."
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="sampler.FIELD=VALUE", help="Changes to the sampler.")
    ] = None,
    ckpt: Annotated[
        str | None, typer.Option("--ckpt", help="Of a run: step (150000 or 150k), latest or best. [latest]")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Number of images; of rows, with --interpolate.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Image i depends on the seed and i alone.")] = 0,
    batch_size: Annotated[
        int,
        typer.Option("--batch-size", help="Images at once; changes an image by rounding at most."),
    ] = 64,
    interpolate: Annotated[
        int | None, typer.Option("--interpolate", metavar="K", help="Rows of K images that change from left to right.")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="F", help="Write F pictures of the annealing.")] = 0,
    film: Annotated[bool, typer.Option("--film", help="Write the annealing as an animated GIF.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Where to. [the run's samples/; of an exported model, ./samples/NAME]"
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

    An interrupted sampling goes on where it stopped when the command is repeated. The sampler can be changed:
    `ncsnx sample digits sampler.steps_per_level=3`; after `ncsnx compare digits`, sampler=fast is the one that it
    recommends. With --interpolate, sampler.denoise=false gives the published
    behaviour.
    """
    with session(verbose=verbose, quiet=quiet) as messages:
        import attrs

        from ncsnx.cli.samplers import with_sampler
        from ncsnx.config.overrides import parse_overrides
        from ncsnx.runs.folder import Run
        from ncsnx.runs.manifest import require_best
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.source import open_source
        from ncsnx.stopping import StopRequest

        place = open_source(runs_folder(runs), run)
        changed = with_sampler(messages, place, parse_overrides(overrides or []))

        from ncsnx.runtime import Runtime
        from ncsnx.sampling import SampleRequest, load

        with StopRequest() as stop:
            request = SampleRequest(
                n=n, seed=seed, batch_size=batch_size, interpolate=interpolate, frames=frames, film=film
            )
            with stop.at_once():
                runtime = Runtime.choose(device=device, threads=threads, plain=plain, compile=compile)
                if ckpt == "best" and isinstance(place, Run):
                    messages.info(f"best: {require_best(place)}")
                model = attrs.evolve(load(place, ckpt, runtime=runtime), experiment=changed)
            output = _sample(messages, model, request, out, data, overwrite, note, stop)
        if json:
            messages.json({"folder": str(output.path), **output.protocol})


def _sample(
    messages: "Messages",
    model: "ScoreModel",
    request: "SampleRequest",
    out: Path | None,
    data: Path | None,
    overwrite: bool,
    note: str,
    stop: "StopRequest",
) -> "SampleFolder":
    from ncsnx.runs.lock import folder_lock
    from ncsnx.sampling import open_output
    from ncsnx.sampling.sample import default_folder

    folder = default_folder(model, request) if out is None else out
    output = open_output(folder, model, request, note=note, overwrite=overwrite)
    what = f"{request.n:,} rows of {request.columns}" if request.interpolate else f"{request.n:,} images"
    source = f"{model.source.path}, step {model.step:,} ({model.weights}), {model.evaluations_in_words} each"
    if output.complete:
        messages.info(f"{what} from {source}: they are there already")
    else:
        with folder_lock(output.path, str(output.path)):
            output.open()  # another process may have gone on with it meanwhile
            missing = len(output.missing())
            again = f", {request.n - missing:,} of them already there" if missing < request.n else ""
            messages.info(f"{what}{again}, from {source}, on {model.runtime.device}")
            _fill(messages, output, model, request, data, stop)
    messages.info(f"images: {output.path / 'images'}")
    messages.info(f"grid:   {output.path / 'grid.png'}")
    if output.protocol["film"]:
        messages.info(f"film:   {output.path / 'film.gif'}")
    return output


def _fill(
    messages: "Messages",
    output: "SampleFolder",
    model: "ScoreModel",
    request: "SampleRequest",
    data: Path | None,
    stop: "StopRequest",
) -> None:
    """Makes what is missing, with progress."""
    from ncsnx.console.progress import progress
    from ncsnx.sampling import fill
    from ncsnx.sampling.generate import indices_per_batch

    batches = math.ceil(len(output.missing()) / indices_per_batch(request.batch_size, request.columns))
    with progress(messages, "sampling", total=batches * model.states, unit="states") as advance:
        taken = fill(output, model, request, data=data, check_stop=stop.check, progress=advance)
    if batches and model.evaluations is None:
        messages.info(f"{taken:,.0f} evaluations each, in the mean over what was made now")
    images = request.n * request.columns
    with progress(messages, "writing pictures", total=images, unit="images") as advance:
        output.finish(stop.check, advance)
