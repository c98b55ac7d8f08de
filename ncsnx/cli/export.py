"""`ncsnx export`: a self-contained folder with one checkpoint of a run, to be passed on."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.session import session

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.runs.folder import Run
    from ncsnx.sampling import ScoreModel
    from ncsnx.sampling.model import SavedWeights
    from ncsnx.stopping import StopRequest

_SEED = 0
"""Of the samples in the picture: fixed, so that nobody chose them."""
_BATCH_SIZE = 64
_GRID = 16
"""Samples in the picture, where nothing else is said."""
_LONG_S = 10 * 60.0
"""A picture that takes longer is drawn on request only."""


def export_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run: its name in the runs folder, or a path.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make; it must not be there yet.")],
    ckpt: Annotated[str, typer.Option("--ckpt", help="Step (150000 or 150k), latest or best.")] = "latest",
    license: Annotated[
        str, typer.Option("--license", metavar="ID", help="The weights' licence, as the Hub names it, such as mit.")
    ] = "unknown",
    grid: Annotated[
        int | None,
        typer.Option(
            "--grid",
            metavar="N",
            min=0,
            max=100,
            help="Samples in the picture; 0 leaves it out. [16, if they take ten minutes at most]",
        ),
    ] = None,
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
    """Export a checkpoint as one folder: weights, configuration, a model card and a picture of samples.

    The folder needs neither the run nor its data: `ncsnx sample DIR` and `ncsnx.load("DIR")` work from it anywhere. It
    has the form of a model repository on the Hugging Face Hub and can be uploaded as it is. The weights are the
    averaged ones (EMA), or the raw ones of a run that averages none.
    """
    with session(verbose=verbose, quiet=quiet) as messages:
        from ncsnx.runs.card import check_license
        from ncsnx.runs.export import check_target, unfinished
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.manifest import require_best
        from ncsnx.runs.names import runs_folder
        from ncsnx.stopping import StopRequest

        place = open_run(runs_folder(runs), run)
        check_license(license)
        check_target(out)
        for entry in unfinished(out):
            messages.warning(f"{entry} is what an export left that was killed (or is at work); it can be removed")
        if ckpt == "best":
            messages.info(f"best: {require_best(place)}")

        from ncsnx.runtime import Runtime
        from ncsnx.sampling.model import build_model, read_weights

        with StopRequest() as stop:
            runtime = Runtime.choose(device=device, threads=threads, plain=plain, compile=compile)
            saved = read_weights(place, ckpt)
            which = "EMA weights" if saved.weights == "ema" else "raw weights, since the run has no EMA"
            messages.info(f"{place.path}, step {saved.step:,}: {which}")
            model = build_model(saved, runtime)
            shown = _affordable(messages, model) if grid is None else grid
            picture = _picture(messages, model, shown, data, stop) if shown else None
            stop.check()
            facts = _write(messages, place, saved, model, out, license, shown, picture)
        if json:
            messages.json(facts)


def _write(
    messages: "Messages",
    run: "Run",
    saved: "SavedWeights",
    model: "ScoreModel",
    out: Path,
    license: str,
    shown: int,
    picture: bytes | None,
) -> dict[str, Any]:
    """Writes the folder, and says and returns what is in it. Raises NcsnxError."""
    from ncsnx.evaluation.recorded import recorded_scores
    from ncsnx.runs.card import UNKNOWN_LICENSE, Picture, card
    from ncsnx.runs.export import export_config, write_export

    recorded = recorded_scores(run, saved.experiment, saved.step, saved.sha256)
    for line in recorded.unreadable:
        messages.warning(f"scores that are left out: {line}")
    content = saved.to_safetensors()
    config = export_config(
        saved.experiment,
        run=run.name,
        step=saved.step,
        weights=saved.weights,
        checkpoint_sha256=saved.sha256,
        model=content,
        # what an imported run is trained on later isn't what these weights were
        data_fingerprint=None if saved.imported else run.data_fingerprint(),
    )
    text = card(
        config,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        evaluations=model.evaluations,
        license=license,
        scores=recorded.scores,
        picture=Picture(images=shown, seed=_SEED) if picture else None,
        imported=saved.imported,
    )
    export = write_export(out, config, content, text, picture)
    if license == UNKNOWN_LICENSE:
        messages.info("the card says `license: unknown`; name the licence there, or with --license")
    scores = f"scores of {len(recorded.scores)} sweeps" if recorded.scores else "no scores of it are recorded"
    messages.info(f"exported: {export.path} ({len(content):,} bytes of weights; {scores})")
    # with a slash it is a path, and not the run of that name
    place = str(export.path) if "/" in str(export.path) else f"./{export.path}"
    messages.info(f"next: ncsnx sample {shlex.quote(place)} --n 16")
    return {
        "folder": str(export.path),
        "run": config.run,
        "step": config.step,
        "weights": config.weights,
        "model_sha256": config.model_sha256,
        "model_bytes": config.model_bytes,
        "license": license,
        "grid": shown,
        "scores": [dict(score.measured) for score in recorded.scores],
    }


def _affordable(messages: "Messages", model: "ScoreModel") -> int:
    """How many samples the picture has by default, by evaluations that are timed now: none where they take long."""
    from ncsnx.console.text import duration
    from ncsnx.evaluation.estimate import seconds_per_image

    seconds = seconds_per_image(model, 1) * model.evaluations * _GRID
    if seconds <= _LONG_S:
        return _GRID
    messages.warning(
        f"no picture: {_GRID} samples take about {duration(seconds)} on {model.runtime.device}; --grid {_GRID} draws "
        "them all the same, --grid 4 fewer"
    )
    return 0


def _picture(messages: "Messages", model: "ScoreModel", n: int, data: Path | None, stop: "StopRequest") -> bytes:
    """A PNG with the first n samples, with progress. Raises NcsnxError."""
    import math

    import torch

    from ncsnx.console.progress import progress
    from ncsnx.errors import NcsnxError, Stopped
    from ncsnx.images import grid, png_bytes, square_columns, to_uint8
    from ncsnx.sampling import SampleRequest, draw

    request = SampleRequest(n=n, seed=_SEED, batch_size=_BATCH_SIZE)
    states = math.ceil(n / _BATCH_SIZE) * (model.evaluations + 1)
    try:
        with progress(messages, "sampling", total=states, unit="states") as advance:
            batches = draw(
                model, request, range(n), data=data, check_stop=stop.check, on_state=lambda batch, state: advance(1)
            )
            images = torch.cat([to_uint8(drawn).cpu() for _, drawn in batches])
    except Stopped:
        raise
    except NcsnxError as error:
        raise NcsnxError(f"{error}; --grid 0 exports without a picture") from error
    return png_bytes(grid(images, square_columns(n)))
