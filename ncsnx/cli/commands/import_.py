"""`ncsnx import`: makes a run of a published checkpoint, or of a folder of them."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.parameters import a_path
from ncsnx.cli.session import session
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.exchange.importing import Imported, ImportTarget
    from ncsnx.exchange.published_files import PublishedCheckpoint
    from ncsnx.stopping import StopRequest


@command("import", panel=RUNS_PANEL, place=170)
def import_command(
    place: Annotated[
        Path,
        typer.Argument(metavar="FILE|FOLDER", parser=a_path, help="A published checkpoint_….pth, or a folder of them."),
    ],
    experiment: options.ExperimentName,
    overrides: options.ExperimentChanges = None,
    runs: options.Runs = None,
    run: options.NewRunName = None,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn published checkpoints into a run.

    The run can be sampled, scored and trained further: `ncsnx import checkpoint_150000.pth bedroom128 --run bedroom`
    makes `runs/bedroom`. Nothing in a file is executed, and every tensor must fit the experiment: where one doesn't,
    the error says what differs. No data is needed. An interrupted import resumes when the
    command is repeated.
    """
    with session(
        "imported checkpoints are kept, and the same command imports the others", verbose=verbose, quiet=quiet
    ) as messages:
        from ncsnx.config.discovery import resolve
        from ncsnx.runs.names import check_run_name, runs_folder

        _require_order(place, experiment)
        found = resolve(experiment, overrides)
        name, folder = check_run_name(found.experiment.name if run is None else run), runs_folder(runs)

        from ncsnx.config.variants import load_plugins
        from ncsnx.exchange.importing import ImportTarget
        from ncsnx.exchange.published_files import published_files
        from ncsnx.stopping import StopRequest

        load_plugins("ncsnx.runtime")
        files = published_files(place)
        with StopRequest() as stop, ImportTarget(folder, name, found, note) as target:
            for change in target.kept:
                messages.info(f"the run keeps its {change.path}: {change.first} (not {change.second})")
            work = _Import(messages, found.experiment, target, stop)
            work.attach()
            rows = [work.one(place)] if files == [place] else list(work.all(files))
        if json:
            messages.json({"run": str(target.path), "experiment": found.experiment.name, "checkpoints": rows})
        _finish(messages, target.path, rows, runs)


def _require_order(place: Path, experiment: str) -> None:
    """Raises UsageError for a file in place of the experiment: the two exchanged, or several files."""
    from ncsnx.errors import Hint, UsageError

    if not experiment.endswith(".pth"):
        return
    if place.suffix == ".pth":
        raise UsageError(
            f"expected an experiment after {place}, found {experiment}; to import several files, name their folder"
        )
    typed = shlex.join(["ncsnx", "import", experiment, str(place)])
    raise UsageError("expected the file first and then the experiment", Hint("type", typed))


class _Import:
    """The import of one file after the other."""

    def __init__(
        self,
        messages: "Messages",
        experiment: "Experiment",
        target: "ImportTarget",
        stop: "StopRequest",
    ) -> None:
        self.messages, self.experiment, self.target, self.stop = messages, experiment, target, stop

    def all(self, paths: list[Path]) -> Iterator[dict[str, Any]]:
        """Imports every file of a folder, and names those that can't be imported."""
        from ncsnx.console.progress import progress
        from ncsnx.errors import NcsnxError

        with progress(self.messages, "importing", total=len(paths), unit="checkpoints") as advance:
            for path in paths:
                try:
                    yield self.one(path)
                except NcsnxError as error:
                    self.messages.warning(str(error))
                    yield {"file": str(path), "outcome": "refused", "error": str(error)}
                advance()

    def one(self, path: Path) -> dict[str, Any]:
        """Imports a file and gives its row. Raises NcsnxError."""
        from ncsnx.exchange.importing import import_remarks, require_fit
        from ncsnx.exchange.published_files import read_published

        self.stop.check()
        self.messages.detail(f"reading {path}")
        published = read_published(path)
        self.stop.check()
        require_fit(self.experiment, published)
        for remark in import_remarks(self.experiment, published):
            self.messages.warning(remark)
        imported = self.target.add(published, self.stop.check)
        self.attach()
        average = "raw weights only" if published.ema is None else "raw and averaged weights"
        held = "" if "pruned" in imported.outcome else f" ({average}, optimizer)"
        self.messages.info(f"step {published.step:,} from {path.name}: {imported.outcome}{held}")
        return _row(published, imported)

    def attach(self) -> None:
        """Writes messages into the run's log too, once the run exists."""
        if self.target.run is not None:
            self.messages.attach(self.target.run.log_path)


def _row(published: "PublishedCheckpoint", imported: "Imported") -> dict[str, Any]:
    return {
        "file": str(published.path),
        "sha256": published.sha256,
        "step": published.step,
        "epoch": published.epoch,
        "ema": published.ema is not None,
        "outcome": imported.outcome,
        "folder": str(imported.folder),
    }


def _finish(messages: "Messages", path: Path, rows: list[dict[str, Any]], runs: Path | None) -> None:
    """Says what was imported, and what to type next. Raises NcsnxError if a file was refused."""
    from ncsnx.errors import NcsnxError

    sound = [row for row in rows if "step" in row]
    new = sum(row["outcome"] == "imported" for row in sound)
    if sound:
        others = f", {len(sound) - new:,} already imported" if new < len(sound) else ""
        messages.info(f"{new:,} imported{others}: {path}")
        option = f" --runs {shlex.quote(str(runs))}" if runs is not None else ""
        newest = max(row["step"] for row in sound)
        messages.info(f"next: ncsnx sample {path.name} --ckpt {newest} --n 16{option}")
    if refused := [Path(row["file"]).name for row in rows if "step" not in row]:
        names = ", ".join(refused[:8]) + (", …" if len(refused) > 8 else "")
        raise NcsnxError(
            f"{len(refused):,} of {counted(len(rows), 'file')} were not imported, for the reasons above: {names}"
        )
