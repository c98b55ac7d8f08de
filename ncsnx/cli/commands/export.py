"""`ncsnx export`: a self-contained folder with one checkpoint of a run, published or not."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.parameters import a_name_or_path, a_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.console.messages import Messages
    from ncsnx.exchange.exporting import Exported
    from ncsnx.exchange.hub_upload import Destination
    from ncsnx.runs.exported import Export
    from ncsnx.runs.folder import Run
    from ncsnx.runs.selection import Source

_HUB_PANEL = "Hugging Face Hub"


@command("export", panel=RUNS_PANEL, place=180)
def export_command(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            parser=a_name_or_path,
            help="A run: its name in the runs folder, or a path. With --push also an exported folder.",
        ),
    ],
    ckpt: options.CheckpointStep = "latest",
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: options.Compile = False,
    graphs: options.EvaluationGraphs = False,
    plain: options.Plain = False,
    precision: options.PicturePrecisionName = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            parser=a_path,
            help="The folder to make; it must not exist yet.",
            show_default="with --push, a temporary folder",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="USER/MODEL",
            help="Publish the export on the Hugging Face Hub (pip install 'ncsnx[hub]').",
            rich_help_panel=_HUB_PANEL,
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.", rich_help_panel=_HUB_PANEL)
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Publish without a question.", rich_help_panel=_HUB_PANEL)
    ] = False,
    license: Annotated[
        str,
        typer.Option(
            "--license",
            metavar="ID",
            help="The weights' licence by its name on the Hub, such as mit.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = "unknown",
    grid: Annotated[
        int | None,
        typer.Option(
            "--grid",
            metavar="N",
            min=0,
            max=100,
            help="Samples in the picture; 0 leaves it out.",
            show_default="16, if they take ten minutes at most",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a checkpoint as a self-contained folder, or publish it.

    The folder holds weights, configuration, a model card and a picture of samples. It needs neither the run nor its
    data: `ncsnx sample DIR` and `ncsnx.load("DIR")` work from it anywhere. The weights are the averaged ones (EMA), or
    the raw ones of a run without EMA.

    --push USER/MODEL makes a repository of it on the Hugging Face Hub, public unless --private, or a commit in one of
    yours, which `ncsnx sample hf://USER/MODEL` draws from. It says first what is published, and asks on a terminal. To
    look at the card before, or to edit it, export with --out DIR, then publish with `ncsnx export DIR --push
    USER/MODEL`. The token is that of `hf auth login`, or HF_TOKEN.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.cli import publishing
        from ncsnx.exchange.card import UNKNOWN_LICENSE, check_license
        from ncsnx.runs.exported import Export
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.score_files import require_best
        from ncsnx.runs.selection import check_checkpoint
        from ncsnx.stopping import StopRequest

        _check_options(out, push, private, yes)
        place = _source(context, runs_folder(runs), run, push)
        if isinstance(place, Export):
            facts = _push_folder(messages, place, str(push), private, yes)
            if json:
                messages.json(facts)
            return
        step = check_checkpoint(place, ckpt)
        check_license(license)
        if out is not None:
            _check_target(messages, out)
        destination = None if push is None else _agreed(messages, place, step, push, private, yes, license)
        if ckpt == "best":
            messages.info(f"best: {require_best(place)}")

        from ncsnx.exchange.exporting import affordable_samples, draw_samples, export_checkpoint
        from ncsnx.sampling.score_model import load

        with StopRequest() as stop, TemporaryDirectory(prefix="ncsnx-export-") as scratch:
            work = work_of(messages, stop)
            with stop.at_once():
                runtime = options.weights_runtime(context, place.experiment())
                model = load(place, step, runtime=runtime)
                which = "EMA weights" if model.weights == "ema" else "raw weights, since the run has no EMA"
                messages.info(f"{place.path}, step {model.step:,}: {which}")
                count = affordable_samples(model, work) if grid is None else grid
            picture = draw_samples(model, count, data, work)
            stop.check()
            folder = Path(scratch) / "model" if out is None else out
            exported = export_checkpoint(place, model, folder, license=license, picture=picture, work=work)
            if license == UNKNOWN_LICENSE:
                messages.info("the model card says `license: unknown`; name the licence there, or with --license")
            _say(messages, exported, out)
            facts = _facts(exported, out, license, count)
            if destination is not None:
                published = publishing.push(messages, stop, exported.export, destination, is_kept=out is not None)
                facts["hub"] = publishing.published_facts(published, destination)
        if json:
            messages.json(facts)


def _check_options(out: Path | None, push: str | None, private: bool, yes: bool) -> None:
    """Raises UsageError for options that lack the one that they belong to."""
    from ncsnx.errors import Hint, UsageError

    if out is None and push is None:
        raise UsageError(
            "an export needs a place",
            Hint("write a folder", adds="--out DIR"),
            Hint("or publish it", adds="--push USER/MODEL"),
        )
    for name, is_given in (("--private", private), ("--yes", yes)):
        if push is None and is_given:
            raise UsageError(f"{name} goes with --push, which is not given")


def _source(context: typer.Context, runs_folder: Path, run: str, push: str | None) -> "Source":
    """The run, or with --push the exported folder. Raises UsageError, NcsnxError."""
    from ncsnx.errors import UsageError
    from ncsnx.runs.exported import Export, is_export
    from ncsnx.runs.folder import locate, open_run

    if push is None or not is_export(path := locate(runs_folder, run)):
        return open_run(runs_folder, run)
    for name in ("ckpt", "data", "out", "license", "grid", *options.EXECUTION):
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE":
            raise UsageError(f"{path} is an exported model, which is published as it is; leave --{name} out")
    return Export(path)


def _agreed(
    messages: "Messages", run: "Run", step: int | None, push: str, private: bool, yes: bool, license: str
) -> "Destination":
    """The repository to publish in, after what will be published was said and agreed to. Raises NcsnxError."""
    from ncsnx.cli import publishing

    experiment = run.experiment()
    destination = publishing.find_push(push, private)
    contents = publishing.Contents(
        run=run.name, step=step or 0, experiment=experiment.name, note=experiment.note, license=license
    )
    publishing.agree(messages, destination, contents, yes)
    return destination


def _push_folder(messages: "Messages", export: "Export", push: str, private: bool, yes: bool) -> dict[str, Any]:
    """Publishes an exported folder; returns the facts for --json. Raises NcsnxError."""
    from ncsnx.cli import publishing
    from ncsnx.stopping import StopRequest

    config = export.config()
    experiment = config.experiment
    destination = publishing.find_push(push, private)
    contents = publishing.Contents(
        run=config.run, step=config.step, experiment=experiment.name, note=experiment.note, license=None
    )
    publishing.agree(messages, destination, contents, yes)
    with StopRequest() as stop:
        published = publishing.push(messages, stop, export, destination, is_kept=True)
    return {
        "folder": str(export.path),
        "run": config.run,
        "step": config.step,
        "weights": config.weights,
        "model_sha256": config.model_sha256,
        "model_bytes": config.model_bytes,
        "hub": publishing.published_facts(published, destination),
    }


def _check_target(messages: "Messages", out: Path) -> None:
    """Checks that the folder can be made, and warns of what killed exports left beside it."""
    from ncsnx.runs.exported import check_target, unfinished

    check_target(out)
    for entry in unfinished(out):
        messages.warning(
            f"{entry} was left by an export that was killed or is still running; once none runs, it can be removed"
        )


def _say(messages: "Messages", exported: "Exported", out: Path | None) -> None:
    """Says what was exported, and what to type next. out: the folder, None for a temporary one."""
    from ncsnx.runs.names import as_typed

    sweeps = len(exported.scores)
    scores = f"scores of {counted(sweeps, 'sweep')}" if sweeps else "no scores recorded"
    what = f"{counted(exported.config.model_bytes, 'byte')} of weights; {scores}"
    if out is None:
        messages.info(f"exported: {what}")
        return
    messages.info(f"exported: {out} ({what})")
    messages.info(f"next: ncsnx sample {as_typed(out)} --n 16")


def _facts(exported: "Exported", out: Path | None, license: str, count: int) -> dict[str, Any]:
    config = exported.config
    return {
        "folder": None if out is None else str(out),
        "run": config.run,
        "step": config.step,
        "weights": config.weights,
        "model_sha256": config.model_sha256,
        "model_bytes": config.model_bytes,
        "license": license,
        "grid": count,
        "scores": [
            {
                "measured": {each.name: {"value": each.value, "error": each.error} for each in score.measured},
                "protocol": score.protocol,
            }
            for score in exported.scores
        ],
    }
