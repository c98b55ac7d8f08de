"""`ncsnx export`: a self-contained folder with one checkpoint of a run, published or not."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import OUTPUT_PANEL, RUNS_PANEL, Command, argument, as_function, command, option
from ncsnx.commands.groups import Execution, InData, OneCheckpoint, Place
from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import counted
from ncsnx.results import Result
from ncsnx.spelling import A_DIR, Placeholder, parameter
from ncsnx.spelling import argument as typed

if TYPE_CHECKING:
    from ncsnx.exchange.card import CardScore
    from ncsnx.exchange.hub_upload import Destination, PublishedExport
    from ncsnx.runs.exported import ExportConfig
    from ncsnx.runs.folder import Run
    from ncsnx.work import Work

_HUB_PANEL = "Hugging Face Hub"


@command("export", panel=RUNS_PANEL, place=180)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Export(OneCheckpoint, InData, Execution, Command["ExportedModel"]):
    """Export a checkpoint as a self-contained folder, or publish it.

    The folder holds weights, configuration, a model card and a picture of samples. It needs neither the run nor its
    data: `ncsnx sample DIR` and `ncsnx.load("DIR")` work from it anywhere. The weights are the averaged ones (EMA), or
    the raw ones of a run without EMA.

    `push` USER/MODEL makes a repository of it on the Hugging Face Hub, public unless `private`, or a commit in one of
    yours, which `ncsnx sample hf://USER/MODEL` draws from. It says first what is published, and asks on a terminal. To
    look at the card before, or to edit it, export with `out` DIR, then publish with `ncsnx export DIR --push
    USER/MODEL`. The token is that of `hf auth login`, or HF_TOKEN.
    """

    run: Annotated["Run | Place", argument("RUN", parse=values.name_or_path, complete="run")] = attrs.field(
        kw_only=False
    )
    """A run: its name in the runs folder, or a path. With `push` also an exported folder."""
    out: Annotated[
        Place | None, option(OUTPUT_PANEL, "DIR", default="a temporary folder, to publish it", parse=values.path)
    ] = None
    """The folder to make; it must not exist yet."""
    license: Annotated[str, option(OUTPUT_PANEL, "ID")] = "unknown"
    """The weights' licence by its name on the Hub, such as mit."""
    grid: Annotated[
        int | None,
        option(OUTPUT_PANEL, "N", default="16, if they take ten minutes at most", between=(0, 100)),
    ] = None
    """Samples in the picture; 0 leaves it out."""
    push: Annotated[str | None, option(_HUB_PANEL, "USER/MODEL")] = None
    """Publish the export on the Hugging Face Hub (pip install 'ncsnx[hub]')."""
    private: Annotated[bool, option(_HUB_PANEL)] = False
    """Make a new repository private."""
    yes: Annotated[bool, option(_HUB_PANEL, None, "--yes", "-y")] = False
    """Publish without a question."""

    def carry_out(self, work: "Work") -> "ExportedModel":
        with work.at_once():
            from ncsnx.exchange.card import UNKNOWN_LICENSE, check_license
            from ncsnx.runs.exported import is_export
            from ncsnx.runs.folder import Run, locate

            self._require_place()
            if self.push is not None and not isinstance(self.run, Run):
                folder = locate(self.runs_folder(), self.run)
                if is_export(folder):
                    return self._pushed(folder, self.push, work)
            run = self.opened()
            step = self.checkpoint(run, work)
            check_license(self.license)
            if self.out is not None:
                _require_free(Path(self.out), work)
            destination = self._destination(run, step, work)

            from ncsnx.exchange.exporting import affordable_samples, draw_samples, export_checkpoint
            from ncsnx.exchange.publishing import push
            from ncsnx.sampling.score_model import load

            model = load(run, step, runtime=self.runtime_for(run.experiment(), work))
            which = "EMA weights" if model.weights == "ema" else "raw weights, since the run has no EMA"
            work.info(f"{run.path}, step {model.step:,}: {which}")
            count = affordable_samples(model, work) if self.grid is None else self.grid
        picture = draw_samples(model, count, self.data_folder(), work)
        work.check_stop()
        with TemporaryDirectory(prefix="ncsnx-export-") as scratch:
            out = Path(scratch) / "model" if self.out is None else Path(self.out)
            made = export_checkpoint(run, model, out, license=self.license, picture=picture, work=work)
            if self.license == UNKNOWN_LICENSE:
                work.info(
                    f"the model card says `license: unknown`; name the licence there, or with {parameter('license')}"
                )
            result = ExportedModel(
                folder=None if self.out is None else out,
                config=made.config,
                license=self.license,
                grid=count,
                scores=made.scores,
            )
            work.info(result.what_was_exported)
            if destination is not None:
                published = push(made.export, destination, work, is_kept=self.out is not None)
                result = attrs.evolve(result, published=published, destination=destination)
            return result

    def _require_place(self) -> None:
        """Raises UsageError for parameters that lack the one that they belong to."""
        if self.out is None and self.push is None:
            raise UsageError(
                "an export needs a place",
                Hint("write a folder", adds=typed("out", A_DIR)),
                Hint("or publish it", adds=typed("push", Placeholder("USER/MODEL"))),
            )
        for name in ("private", "yes"):
            if self.push is None and getattr(self, name):
                raise UsageError(f"{parameter(name)} goes with {parameter('push')}, which is not given")

    def _destination(self, run: "Run", step: int, work: "Work") -> "Destination | None":
        """The repository to publish in, which was agreed to; None without one. Raises UsageError, NcsnxError."""
        if self.push is None:
            return None
        from ncsnx.exchange.publishing import Contents, agreed_destination

        contents = Contents.of_run(run, step, self.license)
        return agreed_destination(self.push, contents, work, private=self.private, yes=self.yes)

    def _pushed(self, folder: Path, repository: str, work: "Work") -> "ExportedModel":
        """Publishes an exported folder. Raises UsageError, NcsnxError."""
        from ncsnx.exchange.publishing import Contents, agreed_destination, push
        from ncsnx.runs.exported import Export as ExportedFolder

        defaults = {field.name: field.default for field in attrs.fields(Export)}
        for name in ("ckpt", "data", "out", "license", "grid", "device", "threads", "compile", "precision"):
            if getattr(self, name) != defaults[name]:
                raise UsageError(
                    f"{folder} is an exported model, which is published as it is; leave {parameter(name)} out"
                )
        export = ExportedFolder(folder)
        contents = Contents.of_export(export)
        destination = agreed_destination(repository, contents, work, private=self.private, yes=self.yes)
        published = push(export, destination, work, is_kept=True)
        return ExportedModel(folder=folder, config=export.config(), published=published, destination=destination)


def _require_free(out: Path, work: "Work") -> None:
    """Checks that the folder can be made, and warns of what killed exports left beside it."""
    from ncsnx.runs.exported import check_target, unfinished

    check_target(out)
    for entry in unfinished(out):
        work.warning(
            f"{entry} was left by an export that was killed or is still running; once none runs, it can be removed"
        )


@attrs.frozen(kw_only=True, repr=False)
class ExportedModel(Result):
    """An exported checkpoint, in a folder or on the Hub."""

    folder: Path | None
    """The folder; None if it was temporary, to publish it."""
    config: "ExportConfig"
    """Content of config.json."""
    license: str | None = None
    grid: int | None = None
    """Number of samples in the picture."""
    scores: "Sequence[CardScore] | None" = None
    """Scores on the model card; None for a folder that was exported before."""
    published: "PublishedExport | None" = None
    """The export on the Hub; None if it wasn't published."""
    destination: "Destination | None" = None

    @property
    def what_was_exported(self) -> str:
        """A line about it."""
        sweeps = len(self.scores or ())
        scores = f"scores of {counted(sweeps, 'sweep')}" if sweeps else "no scores recorded"
        what = f"{counted(self.config.model_bytes, 'byte')} of weights; {scores}"
        return f"exported: {what}" if self.folder is None else f"exported: {self.folder} ({what})"

    def closing(self) -> Sequence[str]:
        from ncsnx.runs.names import as_typed

        lines = [] if self.folder is None else [f"next: ncsnx sample {as_typed(self.folder)} --n 16"]
        return lines if self.published is None else [f"next: ncsnx sample {self.published.address} --n 16"]

    def to_json(self) -> object:
        from ncsnx.exchange.publishing import published_facts

        config = self.config
        facts: dict[str, Any] = {"folder": None if self.folder is None else str(self.folder)}
        facts |= {name: getattr(config, name) for name in ("run", "step", "weights", "model_sha256", "model_bytes")}
        if self.scores is not None:
            facts |= {"license": self.license, "grid": self.grid, "scores": list(map(_score, self.scores))}
        if self.published is not None and self.destination is not None:
            facts["hub"] = published_facts(self.published, self.destination)
        return facts

    def heading(self) -> tuple[str, str]:
        return f"exported step {self.config.step:,} of {self.config.run}", str(self.folder or self.published)


def _score(score: "CardScore") -> dict[str, Any]:
    measured = {each.name: {"value": each.value, "error": each.error} for each in score.measured}
    return {"measured": measured, "protocol": score.protocol}


export = as_function(Export)
