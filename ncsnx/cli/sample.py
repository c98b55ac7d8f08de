"""`ncsnx sample`: draws images from a run's checkpoint."""

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
    run: Annotated[str, typer.Argument(help="A run: its name in the runs folder, or a path.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[sampler.FIELD=VALUE]...")] = None,
    ckpt: Annotated[str, typer.Option("--ckpt", help="Step (150000 or 150k), latest or best.")] = "latest",
    n: Annotated[int, typer.Option("--n", help="Number of images; of rows, with --interpolate.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Image i depends on the seed and i alone.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at once; changes no image.")] = 64,
    interpolate: Annotated[
        int | None, typer.Option("--interpolate", metavar="K", help="Rows of K images that change from left to right.")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="F", help="Write F pictures of the annealing.")] = 0,
    film: Annotated[bool, typer.Option("--film", help="Write the annealing as an animated GIF.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to. [in the run's samples/]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace samples of another protocol in DIR.")] = False,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    plain: options.Plain = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw images: single PNGs, a grid, the tensors, and the protocol that repeats them.

    An interrupted sampling goes on where it stopped when the command is repeated. The sampler can be changed:
    `ncsnx sample digits sampler.steps_per_level=3`. With --interpolate, sampler.denoise=false gives the published
    behaviour.
    """
    with session(verbose=verbose, quiet=quiet) as messages:
        import attrs

        from ncsnx.config.overrides import apply_sampler_overrides
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.stopping import StopRequest

        place = open_run(runs_folder(runs), run)
        changed = apply_sampler_overrides(place.experiment(), overrides or [])

        from ncsnx.runtime import Runtime
        from ncsnx.sampling import SampleRequest, load

        with StopRequest() as stop:
            request = SampleRequest(
                n=n, seed=seed, batch_size=batch_size, interpolate=interpolate, frames=frames, film=film
            )
            runtime = Runtime.choose(device=device, threads=threads, plain=plain, compile=compile)
            model = attrs.evolve(load(place, ckpt, runtime=runtime), experiment=changed)
            output = _sample(messages, model, request, out, data, overwrite, stop)
        if json:
            messages.json({"folder": str(output.path), **output.protocol})


def _sample(
    messages: "Messages",
    model: "ScoreModel",
    request: "SampleRequest",
    out: Path | None,
    data: Path | None,
    overwrite: bool,
    stop: "StopRequest",
) -> "SampleFolder":
    from ncsnx.console.progress import progress
    from ncsnx.sampling import evaluations, fill, open_output
    from ncsnx.sampling.sample import default_folder

    output = open_output(default_folder(model, request) if out is None else out, model, request, overwrite=overwrite)
    count = evaluations(model.experiment.sampler, len(model.network.noise_levels))
    what = f"{request.n:,} rows of {request.columns}" if request.interpolate else f"{request.n:,} images"
    source = f"{model.run.path}, step {model.step:,} ({model.weights}), {count:,} evaluations each"
    if output.complete:
        messages.info(f"{what} from {source}: they are there already")
    else:
        missing = len(output.missing())
        again = f", {request.n - missing:,} of them already there" if missing < request.n else ""
        messages.info(f"{what}{again}, from {source}, on {model.runtime.device}")
        batches = -(-missing // max(1, request.batch_size // request.columns))
        with progress(messages, "sampling", total=batches * (count + 1), unit="states") as advance:
            fill(output, model, request, data=data, check_stop=stop.check, progress=advance)
    messages.info(f"images: {output.path / 'images'}")
    messages.info(f"grid:   {output.path / 'grid.png'}")
    if output.protocol["film"]:
        messages.info(f"film:   {output.path / 'film.gif'}")
    return output
