"""`ncsnx report`: one page about a run, or about several side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.parameters import a_name_or_path, a_path
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of
from ncsnx.quantities import byte_size

if TYPE_CHECKING:
    from ncsnx.runs.folder import Run


@command("report", panel=RUNS_PANEL, place=155)
def report_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", parser=a_name_or_path, help="Runs: their names in the runs folder, or paths; 8 at most."
        ),
    ],
    runs: options.Runs = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            parser=a_path,
            help="The page to write; an older report is replaced, no other file.",
            show_default="report.html in the run's folder, or here for several runs",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    open: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.", rich_help_panel=options.OUTPUT_PANEL)
    ] = False,
    doctor: Annotated[
        bool,
        typer.Option(
            "--doctor/--no-doctor",
            help="Verify every hash, as `ncsnx doctor` does, and show the verdict.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = True,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Write one page about a run, or about several side by side.

    The page is one HTML file without scripts that loads nothing: curves, samples by training step, scores with their
    protocols, samplers, neighbours, tasks, the doctor's verdict, the configuration with origins, and the commands that
    make each again. Several runs stand side by side, their differences first. What a run lacks is left out.

    `ncsnx train` renews RUN/report.html at checkpoints, without the verdict.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.errors import UsageError
        from ncsnx.report.page import MOST_RUNS, report_page
        from ncsnx.runs.doctor import examine
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.runs.writer_lock import writer_of
        from ncsnx.stopping import StopRequest
        from ncsnx.storage.atomic import write_bytes

        if len(names) > MOST_RUNS:
            raise UsageError(f"a page shows {MOST_RUNS} runs at most, not {len(names):,}")
        places: dict[Path, Run] = {}
        for name in names:
            place = open_run(runs_folder(runs), name)
            places.setdefault(place.path.resolve(), place)
        found = list(places.values())
        path = _page(found, out)
        with StopRequest() as stop:
            work = work_of(messages, stop)
            examinations = [examine(place, work, writer_of(place.path)) for place in found] if doctor else []
            with stop.at_once():
                page = report_page(found, examinations)
        write_bytes(path, page)
        messages.info(f"report: {path} ({byte_size(len(page))})")
        if open:
            import webbrowser

            if not webbrowser.open(path.resolve().as_uri()):
                messages.warning(f"no browser was found; open {path} in one")


def _page(found: "list[Run]", out: Path | None) -> Path:
    """The file to write. Raises UsageError where something other than a report is."""
    import os

    from ncsnx.errors import Hint, UsageError

    if out is None:
        if len(found) == 1:
            return found[0].report_path
        out = Path("report.html")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder", Hint("name a file in it", f"--out {out / 'report.html'}"))
    if os.path.lexists(out) and not (out.is_file() and _is_report(out)):
        raise UsageError(f"--out {out} already exists, and is not a report; name another file")
    return out


def _is_report(path: Path) -> bool:
    """Whether a file looks like an earlier report, which may be replaced."""
    with path.open("rb") as file:
        head = file.read(1 << 14)
    return b": ncsnx report</title>" in head
