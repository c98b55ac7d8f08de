"""`ncsnx export`: a self-contained folder with one checkpoint of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, as_function, command, option
from ncsnx.commands.groups import Execution, InData, OneCheckpoint, Place
from ncsnx.errors import Hint, UsageError
from ncsnx.quantities import counted
from ncsnx.results import Result
from ncsnx.spelling import argument, parameter

if TYPE_CHECKING:
    from ncsnx.exchange.card import CardScore
    from ncsnx.exports.exported import ExportConfig
    from ncsnx.work import Work


@command("export", panel=Panel.RUNS, order=180)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Export(OneCheckpoint, InData, Execution, Command["ExportedModel"]):
    """Export a checkpoint as a self-contained folder.

    The folder holds weights, configuration, a model card and a picture of samples. It needs neither the run nor its
    data: `ncsnx sample DIR` and `ncsnx.load("DIR")` work from it anywhere. The weights are the averaged ones (EMA), or
    the raw ones of a run without EMA.

    The folder is a model repository of the Hugging Face Hub: `hf upload USER/MODEL DIR` publishes it, and `ncsnx sample
    hf://USER/MODEL` draws from there.
    """

    out: Annotated[Place | None, option(Panel.OUTPUT, "DIR", default="./RUN-model", parse=values.path)] = None
    """The folder to make; it must not exist yet."""
    license: Annotated[str | None, option(Panel.OUTPUT, "ID", default="that of the weights' source")] = None
    """The weights' license by its name on the Hub, such as mit."""
    license_override: Annotated[bool, option(Panel.OUTPUT)] = False
    """State another license than the one that the weights came with."""
    half: Annotated[bool, option(Panel.OUTPUT)] = False
    """Round the weights to float16, half as large; scores on the card are of the unrounded ones."""
    grid: Annotated[int, option(Panel.OUTPUT, "N", between=(0, 100))] = 16
    """Samples in the picture; 0 leaves it out."""

    def carry_out(self, work: "Work") -> "ExportedModel":
        with work.interruptible():
            from ncsnx.exchange.card import UNKNOWN_LICENSE, check_license
            from ncsnx.exports.exported import check_target

            run = self.opened()
            step = self.checkpoint(run, work)
            if self.license is not None:
                check_license(self.license)
            out = Path(f"{run.name}-model" if self.out is None else self.out)
            check_target(out)

            from ncsnx.exchange.exporting import draw_samples, export_checkpoint
            from ncsnx.sampling.loading import model_of
            from ncsnx.sampling.model import weights_in_words

            model = model_of(run, step, self.runtime_for(run.spec(), work))
            weights, theirs = model.checkpoint.weights, model.checkpoint.license
            which = "raw weights, since the run has no EMA" if weights == "raw" else weights_in_words(weights)
            work.info(f"{run.path}, step {step:,}: {which}")
            if self.license not in (None, theirs) and theirs != UNKNOWN_LICENSE and not self.license_override:
                raise UsageError(
                    f"{parameter('license')} {self.license}: the weights came with the license {theirs}",
                    Hint("state that one"),
                    Hint("or, if you may, state yours", adds=argument("license_override", True)),
                )
            license = self.license or theirs
        picture = draw_samples(model, self.grid, self.data_folder(), work)
        work.check_stop()
        made = export_checkpoint(run, model, out, license=license, picture=picture, half=self.half, work=work)
        if license == UNKNOWN_LICENSE:
            work.info(f"the model card says `license: unknown`; name the license there, or with {parameter('license')}")
        result = ExportedModel(folder=out, config=made.config, license=license, grid=self.grid, scores=made.scores)
        work.info(result.what_was_exported)
        return result


@attrs.frozen(kw_only=True, repr=False)
class ExportedModel(Result):
    """An exported checkpoint."""

    folder: Path
    config: "ExportConfig"
    """Content of config.json."""
    license: str
    grid: int
    """Number of samples in the picture."""
    scores: "Sequence[CardScore]"
    """Scores on the model card."""

    @property
    def what_was_exported(self) -> str:
        """A line about it."""
        scores = f"scores of {counted(len(self.scores), 'sweep')}" if self.scores else "no scores recorded"
        return f"exported: {self.folder} ({counted(self.config.model_bytes, 'byte')} of weights; {scores})"

    def closing(self) -> Sequence[str]:
        from ncsnx.runs.names import as_typed

        return [f"next: ncsnx sample {as_typed(self.folder)} --n 16"]

    def to_json(self) -> object:
        names = ("run", "step", "weights", "model_sha256", "model_bytes")
        return {
            "folder": str(self.folder),
            **{name: getattr(self.config, name) for name in names},
            "license": self.license,
            "grid": self.grid,
            "scores": list(map(_score, self.scores)),
        }

    def heading(self) -> tuple[str, str]:
        return f"exported step {self.config.step:,} of {self.config.run}", str(self.folder)


def _score(score: "CardScore") -> dict[str, Any]:
    measured = {each.name: {"value": each.value, "error": each.error} for each in score.measured}
    return {"measured": measured, "protocol": score.protocol}


export = as_function(Export)
