"""`ncsnx import`: a published checkpoint, or a folder of them, becomes a run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from ncsnx.cli import options
from ncsnx.cli.session import session

if TYPE_CHECKING:
    from ncsnx.config.discovery import Resolved
    from ncsnx.console.messages import Messages
    from ncsnx.runs.folder import Run
    from ncsnx.runs.published import PublishedCheckpoint
    from ncsnx.stopping import StopRequest
    from ncsnx.training.importing import Imported


def import_command(
    place: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="A published checkpoint_….pth, or a folder of them.")
    ],
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="A name (`ncsnx list`), FILE.py or FILE.py:NAME.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="FIELD=VALUE", help="Changes to the experiment.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="Name of the run. [the experiment's]")
    ] = None,
    runs: options.Runs = None,
    note: options.Note = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a run of checkpoints that the published implementation saved, ready to sample, score and train on.

    Nothing in a file is executed, and every tensor must fit the experiment; a file that doesn't is told what differs
    and what it fits. No data is needed. An interrupted import goes on when the command is repeated.
    """
    with session(verbose=verbose, quiet=quiet) as messages:
        from ncsnx.config.discovery import resolve
        from ncsnx.runs.names import check_run_name, runs_folder

        found = resolve(experiment, overrides)
        name, folder = check_run_name(run or found.experiment.name), runs_folder(runs)

        from ncsnx.config.variants import load_plugins
        from ncsnx.runs.published import published_files
        from ncsnx.stopping import StopRequest

        load_plugins("ncsnx.runtime")
        files = published_files(place)
        with StopRequest() as stop:
            work = _Import(messages, found, experiment, overrides or [], folder, name, note, stop)
            work.open_existing()
            rows = work.one(files[0]) if files == [place] else work.all(files)
        if json:
            messages.json({"run": str(folder / name), "experiment": found.experiment.name, "checkpoints": rows})
        work.finish(rows, runs)


@attrs.define
class _Import:
    """The work of one command, file after file."""

    messages: "Messages"
    found: "Resolved"
    typed: str
    overrides: list[str]
    runs_folder: Path
    name: str
    note: str
    stop: "StopRequest"
    run: "Run | None" = None

    def open_existing(self) -> None:
        """Finds the run, if there is one, before gigabytes are read for one that is another experiment's."""
        from ncsnx.runs.folder import open_run
        from ncsnx.training.start import require_same_identity

        if not (self.runs_folder / self.name).exists():
            return
        self.run = open_run(self.runs_folder, f"{self.runs_folder}/{self.name}")
        for change in require_same_identity(self.run, self.found.experiment, None):
            self.messages.info(f"the run keeps its {change.path}: {change.first} (not {change.second})")

    def one(self, path: Path) -> list[dict[str, Any]]:
        """A single file, whose error is the command's."""
        return [self._row(path, *self._import(path))]

    def all(self, paths: list[Path]) -> list[dict[str, Any]]:
        """Every file of a folder; those that can't be imported are named, and don't keep the others out."""
        from ncsnx.console.progress import progress
        from ncsnx.errors import NcsnxError, Stopped

        rows: list[dict[str, Any]] = []
        with progress(self.messages, "importing", total=len(paths), unit="checkpoints") as advance:
            for path in paths:
                try:
                    rows.append(self._row(path, *self._import(path)))
                except Stopped:
                    raise
                except NcsnxError as error:
                    self.messages.warning(str(error))
                    rows.append({"file": str(path), "outcome": "refused", "error": str(error)})
                advance()
        return rows

    def finish(self, rows: list[dict[str, Any]], runs: Path | None) -> None:
        """Says what came out and what to type next. Raises NcsnxError if a file was refused."""
        from ncsnx.errors import NcsnxError

        sound = [row for row in rows if "step" in row]
        new = sum(row["outcome"] == "imported" for row in sound)
        if sound:
            there = f", {len(sound) - new} there already" if new < len(sound) else ""
            self.messages.info(f"{new} imported{there}: {self.runs_folder / self.name}")
            option = f" --runs {shlex.quote(str(runs))}" if runs is not None else ""
            newest = max(row["step"] for row in sound)
            self.messages.info(f"next: ncsnx sample {self.name} --ckpt {newest} --n 16{option}")
        if refused := [Path(row["file"]).name for row in rows if "step" not in row]:
            names = ", ".join(refused[:8]) + (", …" if len(refused) > 8 else "")
            raise NcsnxError(f"{len(refused)} of {len(rows)} files weren't imported, as said above: {names}")

    def _import(self, path: Path) -> "tuple[PublishedCheckpoint, Imported]":
        from ncsnx.runs.lock import writer_lock
        from ncsnx.runs.manifest import remove_debris
        from ncsnx.runs.published import read_published
        from ncsnx.training.fitting import require_fit
        from ncsnx.training.importing import import_checkpoint, remarks

        self.stop.check()
        self.messages.detail(f"reading {path}")
        published = read_published(path)
        self.stop.check()
        require_fit(self.found.experiment, published, self.typed, self.overrides)
        for remark in remarks(self.found.experiment, published):
            self.messages.warning(remark)
        run = self._opened()
        with writer_lock(run):
            self.messages.attach(run.log_path)
            remove_debris(run)
            imported = import_checkpoint(run, self.found.experiment, published, self.note, self.stop.check)
        average = "raw weights only" if published.ema is None else "raw and averaged weights"
        self.messages.info(f"step {published.step:,} from {path.name}: {imported.outcome} ({average}, optimizer)")
        return published, imported

    def _opened(self) -> "Run":
        """The run, made when the first file has proved sound."""
        from ncsnx.runs.folder import Run

        if self.run is None:
            self.run = Run.create(
                self.runs_folder, self.name, self.found.experiment, self.found.origins, self.found.source, None
            )
        return self.run

    def _row(self, path: Path, published: "PublishedCheckpoint", imported: "Imported") -> dict[str, Any]:
        return {
            "file": str(path),
            "sha256": published.sha256,
            "step": published.step,
            "epoch": published.epoch,
            "ema": published.ema is not None,
            "outcome": imported.outcome,
            "folder": str(imported.folder),
        }
