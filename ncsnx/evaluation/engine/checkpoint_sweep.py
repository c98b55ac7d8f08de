"""Sweeps over the checkpoints of a run: one row each, with a score where lower is better.

fid/n1000-seed0-classifier-1a2b3c4d/scores.json  scores.csv  scores.png  scores.svg  metrics.png  …
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import attrs

from ncsnx.config.canonical import digest
from ncsnx.config.experiment import Experiment, Precision
from ncsnx.evaluation.engine.candidates import Candidate, load_member
from ncsnx.evaluation.engine.measurement import Measurement
from ncsnx.metrics.metric import Quantity
from ncsnx.runs.exported import Weights
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.names import step_name
from ncsnx.runs.score_files import TABLE, Row, ScoreFile, value
from ncsnx.runs.segments import versions
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import ScoreModel, weights_in_words, weights_of
from ncsnx.storage.process import this_process


@attrs.frozen(eq=False, kw_only=True)
class CheckpointSweep(Measurement[Candidate]):
    """Measures checkpoints of one run under one protocol."""

    label: ClassVar = "the sweep"

    run: Run
    experiment: Experiment
    """The run's experiment, with the overrides of this sweep."""
    runtime: Runtime
    note: str = ""
    """A remark for the record of each row."""

    @property
    @abstractmethod
    def score(self) -> Quantity:
        """The number that is lowest for the best checkpoint; 'score' in a row."""

    @property
    @abstractmethod
    def quantities(self) -> Sequence[Quantity]:
        """The columns of the table, the score first."""

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

    @property
    @abstractmethod
    def kept_in(self) -> tuple[Path, str]:
        """The run's folder for these sweeps, and the beginning of this one's name; a digest of the protocol follows."""

    @abstractmethod
    def seconds(self, candidate: Candidate) -> float:
        """Seconds that a candidate will take, estimated from a quick timing. Raises NcsnxError."""

    @property
    def pictures(self) -> Sequence[str]:
        """Names of the files that `draw` makes."""
        return ("scores.png", "scores.svg")

    @abstractmethod
    def draw(self) -> object:
        """Draws all rows into `pictures`. Raises NcsnxError."""

    @abstractmethod
    def conclusion(self, best: Row) -> list[str]:
        """Closing messages, one line each."""

    # ------------------------------------------------------------------------------------ rows and missing numbers

    @cached_property
    def place(self) -> Path:
        folder, begins = self.kept_in
        return folder / f"{begins}-{digest(self.protocol())[:8]}"

    @cached_property
    def scores(self) -> ScoreFile:
        """The rows so far. Raises NcsnxError for a damaged file."""
        return ScoreFile.open(self.place, self.protocol(), self.metric, self.caption())

    def rows(self, candidates: Sequence[Candidate]) -> list[Row]:
        """The rows of the candidates; candidates without one are skipped."""
        found = [self.scores.row(candidate.step, candidate.weights_sha256) for candidate in candidates]
        return [row for row in found if row is not None]

    def reload(self) -> None:
        self.scores.reload()

    def is_done(self, subject: Candidate) -> bool:
        return self.scores.row(subject.step, subject.weights_sha256) is not None

    def add(self, subject: Candidate, row: Row) -> None:
        finished = this_process()["started"]
        self.scores.add({**row, "made": {**self._provenance, "finished": finished}}, finished)

    def problem(self, row: Row) -> str | None:
        if value(row, "score") is not None:
            return None
        return f"its {self.metric} is {row['score']:g}, which is out of range"

    def update_description(self) -> bool:
        """Updates the caption and other facts beside the rows, in memory only; returns whether they changed."""
        return False

    def lacks(self, row: Row) -> bool:
        """Whether a row lacks numbers of a current metric."""
        return False

    def can_fill(self, row: Row) -> bool:
        """Whether the missing numbers of a row can probably be computed from kept files."""
        return False

    def fill(self, row: Row) -> Row | None:
        """The row with its missing numbers, computed from kept files; None if those are gone."""
        return None

    # ----------------------------------------------------------------------------------------------- a checkpoint

    def name(self, subject: Candidate) -> str:
        return f"step {subject.step:,}"

    def mark(self, subject: Candidate) -> str:
        return f"{step_name(subject.step)}-{subject.weights_sha256[:8]}"

    def load(self, candidate: Candidate) -> list[ScoreModel]:
        """The models of a candidate. Raises UnsoundError for a checkpoint that is damaged, removed or replaced."""
        models = [load_member(self.run, member, self.runtime) for member in candidate.members]
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
        return None

    def context(self) -> dict[str, Any]:
        """Facts on the sweep that accompany each row in JSON output."""
        return {"metric": self.scores.metric, "protocol": {"caption": self.scores.caption, **self.scores.protocol}}

    @property
    def pictures_in_words(self) -> str:
        """Names of the existing plots."""
        return ", ".join(name for name in self.pictures if (self.place / name).is_file())

    def draw_if_outdated(self) -> None:
        """Writes the CSV and the plots of all rows, unless they are up to date. Raises NcsnxError."""
        if self.scores.rows and self.scores.is_newer_than([TABLE, *self.pictures]):
            self.scores.write_table()
            self.draw()

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        """Provenance of new rows: facts on record that don't determine the numbers."""
        return {**this_process(), "note": self.note, "runtime": self.runtime.facts(), "versions": versions()}
