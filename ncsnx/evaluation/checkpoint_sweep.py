"""Sweeps over the checkpoints of a run: one row each, with a score where lower is better.

fid/n1000-seed0-classifier-1a2b3c4d/scores.json  scores.csv  scores.png  scores.svg
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import attrs
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.config.experiment import Experiment, Precision
from ncsnx.errors import DivergedError, NcsnxError, UsageError
from ncsnx.evaluation.engine import Measurement
from ncsnx.evaluation.plots import plot_scores
from ncsnx.evaluation.reference import PerfectModel
from ncsnx.metrics.metric import Quantity
from ncsnx.quantities import counted, with_error
from ncsnx.runs.exported import Weights
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError, checkpoints, read_manifest
from ncsnx.runs.names import step_name
from ncsnx.runs.score_files import Row, ScoreFile, value
from ncsnx.runs.segments import versions
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import ScoreModel, load, weights_in_words, weights_of
from ncsnx.spelling import parameter
from ncsnx.storage.process import this_process
from ncsnx.work import Work


@attrs.frozen
class Candidate:
    """A checkpoint or ensemble that gets one row in a sweep."""

    step: int
    members: tuple[int, ...]
    """Steps whose scores are averaged, ascending; only `step` without an ensemble."""
    weights_sha256: str
    """sha256 of the weights file; for an ensemble, a digest of the members' sha256."""


def choose(run: Run, steps: Sequence[int], work: Work, ensemble: int = 1) -> tuple[tuple[Candidate, ...], list[str]]:
    """The candidates of these steps, and a line for each damaged checkpoint. Warns of everything left out.

    Each checkpoint is one, or with `ensemble` = K > 1 the last K checkpoints up to each, whose scores the published
    code averages to evaluate runs without EMA. Raises UsageError for an ensemble of a run with EMA, which the published
    code refuses too, and if no step has K checkpoints up to it.
    """
    experiment = run.experiment()
    if ensemble > 1 and experiment.ema is not None:
        raise UsageError(
            f"{parameter('ensemble')} is for runs without EMA, and the weights of {run.name!r} are already averaged "
            f"(ema.rate={experiment.ema.rate}); leave it out"
        )
    available = checkpoints(run)
    candidates, unsound, without = [], [], []
    for step in steps:
        members = tuple([other for other in available if other <= step][-ensemble:])
        if len(members) < ensemble:
            without.append(step)
            continue
        try:
            hashes = [_weights_sha256(run, experiment, member) for member in members]
        except UnsoundError as error:
            unsound.append(str(error))
            continue
        candidates.append(Candidate(step, members, hashes[0] if ensemble == 1 else digest(hashes)))
    if not candidates and unsound:
        raise NcsnxError(f"every checkpoint in the range is damaged: {'; '.join(unsound)}")
    if not candidates:
        raise UsageError(
            f"{parameter('ensemble')} {ensemble}: no step in the range has {counted(ensemble, 'checkpoint')} up to it; "
            f"run {run.name!r} has {len(available):,}"
        )
    if without:
        shown = ", ".join(f"{step:,}" for step in without)
        work.warning(f"left out, since fewer than {counted(ensemble, 'checkpoint')} lead up to them: {shown}")
    for line in unsound:
        work.warning(f"left out: {line}")
    return tuple(candidates), unsound


def _weights_sha256(run: Run, experiment: Experiment, step: int) -> str:
    folder = run.checkpoints / step_name(step)
    name = f"{weights_of(experiment)[1]}.safetensors"
    manifest = read_manifest(folder)
    if name not in manifest.files:
        raise UnsoundError(f"{folder / name} is missing")
    return manifest.files[name].sha256


@attrs.frozen(eq=False, kw_only=True)
class CheckpointSweep(Measurement[Candidate]):
    """Measures checkpoints of one run under one protocol."""

    label: ClassVar = "the sweep"
    plot: ClassVar = "scores"
    """Name of the plot, without suffix."""

    run: Run
    experiment: Experiment
    """The run's experiment, with the overrides of this sweep."""
    runtime: Runtime
    note: str = ""
    """A remark for the record of each row."""
    perfect_model: PerfectModel | None = None
    """Score of a perfect model, the noise floor; None if unknown, and for measures other than distances."""

    @property
    @abstractmethod
    def quantities(self) -> Sequence[Quantity]:
        """The columns of the table, the score first."""

    @property
    def score(self) -> Quantity:
        """The number that is lowest for the best checkpoint; 'score' in a row."""
        return self.quantities[0]

    @property
    def weights(self) -> Weights:
        """Which weights of a checkpoint are measured."""
        return weights_of(self.experiment)[0]

    @property
    def precision(self) -> Precision:
        """Number format of the evaluations."""
        return self.runtime.precision_for(self.experiment)

    @property
    def weights_and_precision(self) -> str:
        """'EMA weights', with a precision that isn't the experiment's: 'EMA weights, in bf16'."""
        return weights_in_words(self.weights) + self.runtime.precision_in_words(self.experiment)

    @property
    def metric(self) -> str:
        """Name of the score."""
        return self.score.title

    def draw(self) -> None:
        """Draws all rows into `plot`.png and `plot`.svg. Raises NcsnxError."""
        perfect = None if self.perfect_model is None else (self.perfect_model.score, self.perfect_model.spread)
        texts = {"metric": self.metric, "title": self.run.name, "caption": self.caption()}
        plot_scores(self.place / self.plot, self.scores.rows, perfect=perfect, **texts)

    def remarks(self) -> list[str]:
        """Closing messages on what the scores mean, one line each; by default none."""
        return []

    # ------------------------------------------------------------------------------------ rows and missing numbers

    @cached_property
    def scores(self) -> ScoreFile:
        """The rows so far. Raises NcsnxError for a damaged file."""
        scores = ScoreFile.open(self.place, self.protocol())
        scores.metric, scores.caption = self.metric, self.caption()
        scores.perfect_model = None if self.perfect_model is None else self.perfect_model.to_json()
        return scores

    def row_of(self, candidate: Candidate) -> Row | None:
        """The row of a candidate; None without one."""
        return self.scores.row(candidate.step, candidate.weights_sha256)

    def rows(self, candidates: Sequence[Candidate]) -> list[Row]:
        """The rows of the candidates; candidates without one are skipped."""
        return [row for candidate in candidates if (row := self.row_of(candidate)) is not None]

    def reload(self) -> None:
        self.scores.reload()

    def is_done(self, subject: Candidate) -> bool:
        return self.row_of(subject) is not None

    def add(self, subject: Candidate, row: Row) -> None:
        finished = this_process()["started"]
        self.scores.add({**row, "made": {**self._provenance, "finished": finished}}, finished)

    def complete(self, candidates: Sequence[Candidate], work: Work) -> None:
        """Adds numbers that rows lack and that can be computed from kept files; by default none. Raises NcsnxError."""

    # ----------------------------------------------------------------------------------------------- a checkpoint

    def name(self, subject: Candidate) -> str:
        return f"step {subject.step:,}"

    def mark(self, subject: Candidate) -> str:
        return f"{step_name(subject.step)}-{subject.weights_sha256[:8]}"

    def row(self, subject: Candidate, whole: Mapping[str, Tensor], work: Work) -> Row:
        row = {"step": subject.step, "weights_sha256": subject.weights_sha256, **self.measured(subject, whole)}
        if value(row, "score") is None:
            raise DivergedError(f"its {self.metric} is {row['score']:g}, which is out of range")
        return row

    @abstractmethod
    def measured(self, subject: Candidate, whole: Mapping[str, Tensor]) -> Row:
        """The measured values of a checkpoint, 'score' among them; parameters and errors as in `row`."""

    def load(self, candidate: Candidate) -> list[ScoreModel]:
        """The models of a candidate. Raises UnsoundError for a checkpoint that is damaged, removed or replaced."""
        try:
            models = [load(self.run, member, runtime=self.runtime) for member in candidate.members]
        except UsageError as error:
            if set(candidate.members) <= set(checkpoints(self.run)):
                raise
            raise UnsoundError("it was removed in the meantime, perhaps by the retention of a training run") from error
        except UnsoundError as error:
            raise UnsoundError(error.message) from error  # its hint is for commands that take one checkpoint
        if len(models) == 1 and models[0].weights_sha256 != candidate.weights_sha256:
            raise UnsoundError(f"the checkpoint of step {candidate.step:,} was replaced in the meantime")
        return [attrs.evolve(model, experiment=self.experiment) for model in models]

    # ------------------------------------------------------------------------------------------------------ output

    def caution(self) -> str | None:
        """A caution about comparing these numbers with others; None if there is none."""
        return None

    @property
    def titles(self) -> list[str]:
        """Titles of the table's columns."""
        return ["step", *(one.title for one in self.quantities)]

    def cells(self, row: Row) -> list[str]:
        """Cells of the table for a row."""
        return [f"{row['step']:,}", *(one.shown(row) for one in self.quantities)]

    def perfect_cells(self) -> list[str] | None:
        """Cells of the table's last row, with the values of a perfect model; None if they are unknown."""
        if self.perfect_model is None:
            return None
        others = ("" if one.perfect is None else f"{one.perfect:g}" for one in self.quantities[1:])
        return ["perfect model", with_error(self.perfect_model.score, self.perfect_model.spread), *others]

    def context(self) -> dict[str, Any]:
        """Facts on the sweep that accompany each row in JSON output."""
        return {"metric": self.scores.metric, "protocol": {"caption": self.scores.caption, **self.scores.protocol}}

    def write_plots(self) -> None:
        """Writes the CSV and the plots of all rows. Raises NcsnxError."""
        if self.scores.rows:
            self.scores.write_table()
            self.draw()

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        """Provenance of new rows: facts on record that don't determine the numbers."""
        return {**this_process(), "note": self.note, "runtime": self.runtime.facts(), "versions": versions()}
