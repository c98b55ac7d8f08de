"""`ncsnx import`: makes a run of a model that was trained elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, as_function, command, option
from ncsnx.commands.groups import FieldChanges, InRuns, Noted, Place, changed_words
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.quantities import counted, listed
from ncsnx.results import Result

if TYPE_CHECKING:
    from ncsnx.config.discovery import Resolved
    from ncsnx.exchange.model_source import FoundModel, ModelSource
    from ncsnx.runs.folder import Run
    from ncsnx.work import Work


@command(
    "import",
    panel=Panel.RUNS,
    order=170,
    then="imported checkpoints are kept, and the same command imports the others",
)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class ImportModel(InRuns, Noted, Command["ImportedRun"]):
    """Turn a model that was trained elsewhere into a run.

    The run is sampled, restored with, scored and exported like any other. SOURCE is a folder of a diffusers model or
    hf://USER/MODEL, an edm-….pkl, deepinv:NAME, or a published checkpoint_….pth or a folder of them. Such a .pth does
    not say what its network is: name its experiment, as in `ncsnx import checkpoint_150000.pth bedroom128`. For all
    others an experiment gives the data set that images are compared with.

    Nothing in a file is executed, and every tensor must fit. An interrupted import resumes when the command is
    repeated.
    """

    path: Annotated[Place, argument("SOURCE", parse=values.name_or_path)] = attrs.field(kw_only=False)
    """A file, folder or address."""
    experiment: Annotated[Place | None, argument("EXPERIMENT", parse=values.name_or_path, complete="experiment")] = (
        attrs.field(default=None, kw_only=False)
    )
    """A name (see `ncsnx list`), FILE.py or FILE.py:NAME."""
    changes: FieldChanges = attrs.field(default=(), kw_only=False)
    """Changes to the experiment of a .pth, such as model.width=64, or to its data, such as data.root=DIR."""
    name: Annotated[str | None, option(Panel.OUTPUT, "NAME", "--run", default="that of the model")] = None
    """Name of the run."""

    def carry_out(self, work: "Work") -> "ImportedRun":
        with work.interruptible():
            from ncsnx.config.discovery import resolve
            from ncsnx.runs.names import check_run_name

            experiment = None if self.experiment is None else str(self.experiment)
            named = None if experiment is None else resolve(experiment, changed_words(self.changes))
            if self.name is not None:
                check_run_name(self.name)

            from ncsnx.exchange.model_source import source_of

            source = source_of(str(self.path))
            addresses = list(source.files(str(self.path)))
        return _Import(self, source, named, work, changed_words(self.changes)).carry_out(addresses)


@attrs.define
class _Import:
    """The import of one checkpoint after the other."""

    command: ImportModel
    source: "ModelSource"
    named: "Resolved | None"
    work: "Work"
    changes: list[str]
    imported_as: str = ""
    """Name of the model or experiment."""
    run: "Run | None" = None
    """The run, from the first model on."""
    opened: ExitStack = attrs.field(factory=ExitStack)
    """The run's lock."""

    def carry_out(self, addresses: Sequence[str]) -> "ImportedRun":
        with self.opened:
            rows = [self.one(addresses[0])] if len(addresses) == 1 else list(self.all(addresses))
        if self.run is None:
            raise NcsnxError(_refused(rows))
        runs_option = self.command.runs_option()
        return ImportedRun(path=self.run.path, experiment=self.imported_as, checkpoints=rows, runs_option=runs_option)

    def all(self, addresses: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Imports every file of a folder, and names those that can't be imported."""
        with self.work.progress("importing", total=len(addresses), unit="checkpoints") as advance:
            for address in addresses:
                try:
                    yield self.one(address)
                except NcsnxError as error:
                    self.work.warning(str(error))
                    yield {"file": address, "outcome": "refused", "error": str(error)}
                advance()

    def one(self, address: str) -> dict[str, Any]:
        """Imports a checkpoint and gives its row. Raises NcsnxError."""
        from ncsnx.exchange import importing

        work = self.work
        work.check_stop()
        work.detail(f"reading {address}")
        found = self.source.read(address, None if self.named is None else self.named.experiment, work)
        work.check_stop()
        if found.is_pretrained and (odd := [word for word in self.changes if not word.startswith("data")]):
            raise UsageError(
                f"{odd[0]}: the files say what the model is, and the experiment gives its data alone",
                Hint("leave it out"),
            )
        found = found.compared_with(None if self.named is None else self.named.experiment)
        run, record, self.imported_as = self._run(found), found.record, found.declared.name
        imported = importing.import_checkpoint(run, found, self.command.note, work.check_stop)
        work.info(f"{found.step_in_words} from {record.file}: {imported.outcome}{found.weights_in_words}")
        for line in found.remarks:
            work.info(line)
        return {
            "file": address,
            "kind": self.source.kind,
            "sha256": record.sha256,
            "step": record.step,
            "epoch": record.epoch,
            "ema": found.has_average,
            "outcome": imported.outcome,
            "folder": str(imported.folder),
        }

    def _run(self, found: "FoundModel") -> "Run":
        """The run, made or opened for the first model."""
        from ncsnx.exchange import importing

        if self.run is None:
            named = None if found.is_pretrained else self.named
            path = self.command.runs_folder() / (self.command.name or found.declared.name)
            origins, text = (found.origins, None) if named is None else (named.origins, named.file_text)
            self.run, kept = self.opened.enter_context(importing.import_target(path, found, origins, text))
            for change in kept:
                self.work.info(f"the run keeps its {change.path}: {change.first} (not {change.second})")
            self.work.attach(self.run.log_path)
        return self.run


def _refused(rows: Sequence[dict[str, Any]]) -> str:
    """Sentence about files that were refused."""
    refused = [Path(row["file"]).name for row in rows if "step" not in row]
    ratio = f"{len(refused):,} of {counted(len(rows), 'file')}"
    return f"{ratio} were not imported, for the reasons above: {listed(refused, 8)}"


@attrs.frozen(kw_only=True, repr=False)
class ImportedRun(Result):
    """A run of a model that was trained elsewhere."""

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
        return [f"{new:,} imported{others}: {self.path}", following]

    def problem(self) -> NcsnxError | None:
        return None if all("step" in row for row in self.checkpoints) else NcsnxError(_refused(self.checkpoints))

    def to_json(self) -> object:
        return {"run": str(self.path), "experiment": self.experiment, "checkpoints": self.checkpoints}

    def heading(self) -> tuple[str, str]:
        return f"imported {self.experiment}", str(self.path)


import_checkpoint = as_function(ImportModel)
