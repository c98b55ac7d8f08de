"""`ncsnx import`: makes a run of a published checkpoint, or of a folder of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import OUTPUT_PANEL, RUNS_PANEL, Command, argument, as_function, command, option
from ncsnx.commands.groups import FieldChanges, InRuns, Noted, Place, changed_words
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.results import Result

if TYPE_CHECKING:
    from ncsnx.config.experiment import Experiment
    from ncsnx.exchange.importing import ImportTarget
    from ncsnx.work import Work


@command(
    "import",
    panel=RUNS_PANEL,
    place=170,
    then="imported checkpoints are kept, and the same command imports the others",
)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class ImportCheckpoint(InRuns, Noted, Command["ImportedRun"]):
    """Turn published checkpoints into a run.

    The run can be sampled, scored and trained further: `ncsnx import checkpoint_150000.pth bedroom128 --run bedroom`
    makes `runs/bedroom`. Nothing in a file is executed, and every tensor must fit the experiment: where one doesn't,
    the error says what differs. No data is needed. An interrupted import resumes when the command is repeated.
    """

    path: Annotated[Place, argument("FILE|FOLDER", parse=values.path)] = attrs.field(kw_only=False)
    """A published checkpoint_….pth, or a folder of them."""
    experiment: Annotated[Place, argument("EXPERIMENT", parse=values.name_or_path, complete="experiment")] = (
        attrs.field(kw_only=False)
    )
    """A name (see `ncsnx list`), FILE.py or FILE.py:NAME."""
    changes: FieldChanges = attrs.field(default=(), kw_only=False)
    """Changes to the experiment, such as model.width=64."""
    name: Annotated[str | None, option(OUTPUT_PANEL, "NAME", "--run", default="the experiment's")] = None
    """Name of the run."""

    def carry_out(self, work: "Work") -> "ImportedRun":
        with work.at_once():
            from ncsnx.config.discovery import resolve
            from ncsnx.runs.names import check_run_name

            path = Path(self.path)
            experiment = str(self.experiment)
            found = resolve(experiment, changed_words(self.changes))
            name = check_run_name(found.experiment.name if self.name is None else self.name)

            from ncsnx.config.variants import load_plugins
            from ncsnx.exchange.importing import ImportTarget
            from ncsnx.exchange.published_files import published_files

            load_plugins("ncsnx.runtime")
            files = published_files(path)
        with ImportTarget(self.runs_folder(), name, found, self.note) as target:
            for change in target.kept:
                work.info(f"the run keeps its {change.path}: {change.first} (not {change.second})")
            imports = _Import(found.experiment, target, work)
            imports.attach()
            rows = [imports.one(path)] if files == [path] else list(imports.all(files))
        return ImportedRun(
            path=target.path, experiment=found.experiment.name, checkpoints=rows, runs_option=self.runs_option()
        )


@attrs.frozen
class _Import:
    """The import of one file after the other."""

    experiment: "Experiment"
    target: "ImportTarget"
    work: "Work"

    def all(self, paths: list[Path]) -> Iterator[dict[str, Any]]:
        """Imports every file of a folder, and names those that can't be imported."""
        with self.work.progress("importing", total=len(paths), unit="checkpoints") as advance:
            for path in paths:
                try:
                    yield self.one(path)
                except NcsnxError as error:
                    self.work.warning(str(error))
                    yield {"file": str(path), "outcome": "refused", "error": str(error)}
                advance()

    def one(self, path: Path) -> dict[str, Any]:
        """Imports a file and gives its row. Raises NcsnxError."""
        from ncsnx.exchange.importing import require_fit
        from ncsnx.exchange.published_files import read_published

        work = self.work
        work.check_stop()
        work.detail(f"reading {path}")
        published = read_published(path)
        work.check_stop()
        require_fit(self.experiment, published)
        imported = self.target.add(published, work.check_stop)
        self.attach()
        average = "raw weights only" if published.ema is None else "raw and averaged weights"
        work.info(f"step {published.step:,} from {path.name}: {imported.outcome} ({average})")
        return {
            "file": str(published.path),
            "sha256": published.sha256,
            "step": published.step,
            "epoch": published.epoch,
            "ema": published.ema is not None,
            "outcome": imported.outcome,
            "folder": str(imported.folder),
        }

    def attach(self) -> None:
        """Writes messages into the run's log too, once the run exists."""
        if self.target.run is not None:
            self.work.attach(self.target.run.log_path)


@attrs.frozen(kw_only=True, repr=False)
class ImportedRun(Result):
    """A run of published checkpoints."""

    path: Path
    """Folder of the run."""
    experiment: str
    checkpoints: Sequence[dict[str, Any]]
    """The sha256, step, outcome and folder of each file; the error of one that was refused."""
    runs_option: str = ""

    def closing(self) -> Sequence[str]:
        sound = [row for row in self.checkpoints if "step" in row]
        if not sound:
            return ()
        new = sum(row["outcome"] == "imported" for row in sound)
        others = f", {len(sound) - new:,} already imported" if new < len(sound) else ""
        newest = max(row["step"] for row in sound)
        following = f"next: ncsnx sample {self.path.name} --ckpt {newest} --n 16{self.runs_option}"
        fresh = "training it further begins with a fresh optimizer"
        return [f"{new:,} imported{others}: {self.path}", fresh, following]

    def problem(self) -> NcsnxError | None:
        refused = [Path(row["file"]).name for row in self.checkpoints if "step" not in row]
        if not refused:
            return None
        names = ", ".join(refused[:8]) + (", …" if len(refused) > 8 else "")
        files = counted(len(self.checkpoints), "file")
        return NcsnxError(f"{len(refused):,} of {files} were not imported, for the reasons above: {names}")

    def to_json(self) -> object:
        return {"run": str(self.path), "experiment": self.experiment, "checkpoints": self.checkpoints}

    def heading(self) -> tuple[str, str]:
        return f"imported {self.experiment}", str(self.path)


import_checkpoint = as_function(ImportCheckpoint)
