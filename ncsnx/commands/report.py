"""`ncsnx report`: one page about a run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, as_function, command, option
from ncsnx.commands.groups import OfRun, Place
from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import byte_size
from ncsnx.results import Result
from ncsnx.spelling import argument as spelled
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.runs.folder import Run
    from ncsnx.work import Work


@command("report", panel=Panel.RUNS, order=155)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Report(OfRun, Command["WrittenReport"]):
    """Write one page about a run.

    The page is one HTML file without scripts that loads nothing: curves, samples by training step, scores with their
    protocols, samplers, neighbors, tasks, the configuration with origins, and the commands that make each again. What
    the run lacks is left out.

    `ncsnx train` renews RUN/report.html at checkpoints.
    """

    out: Annotated[
        Place | None,
        option(Panel.OUTPUT, "FILE", default="report.html in the run's folder", parse=values.path),
    ] = None
    """The page to write; an older report is replaced, no other file."""
    open: Annotated[bool, option(Panel.OUTPUT)] = False
    """Open the page in the browser."""

    def carry_out(self, work: "Work") -> "WrittenReport":
        with work.interruptible():
            from ncsnx.reporting.report import report_page
            from ncsnx.storage.atomic import write_bytes

            run = self.opened()
            path = self._page(run)
            page = report_page(run)
        write_bytes(path, page)
        work.info(f"report: {path} ({byte_size(len(page))})")
        if self.open:
            import webbrowser

            if not webbrowser.open(path.resolve().as_uri()):
                work.warning(f"no browser was found; open {path} in one")
        return WrittenReport(path)

    def _page(self, run: "Run") -> Path:
        """The file to write. Raises UsageError where something other than a report is."""
        if self.out is None:
            return run.report_path
        out, name = Path(self.out), parameter("out")
        if out.is_dir():
            raise UsageError(
                f"{name} {out} is a folder", Hint("name a file in it", adds=spelled("out", str(out / "report.html")))
            )
        if os.path.lexists(out) and not (out.is_file() and _is_report(out)):
            raise UsageError(f"{name} {out} already exists, and is not a report; name another file")
        return out


def _is_report(path: Path) -> bool:
    """Whether a file looks like an earlier report, which may be replaced."""
    with path.open("rb") as file:
        head = file.read(1 << 14)
    return b": ncsnx report</title>" in head


@attrs.frozen(repr=False)
class WrittenReport(Result):
    """A page about a run."""

    path: Path

    def to_json(self) -> object:
        return {"path": str(self.path)}

    def heading(self) -> tuple[str, str]:
        return "report", str(self.path)


report = as_function(Report)
