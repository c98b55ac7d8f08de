"""What is measured of a run's checkpoints: a row each, with a score that is the lower the better.

fid/n1000-seed0-classifier-1a2b3c4d/scores.json  scores.csv  scores.png  scores.svg  metrics.png  …
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import attrs

from ncsnx.config.canonical import digest
from ncsnx.config.experiment import Experiment
from ncsnx.evaluation.engine.candidates import Candidate, load_member
from ncsnx.evaluation.engine.measurement import Measurement
from ncsnx.metrics.metric import Quantity
from ncsnx.runs.checkpoints.manifest import UnsoundError
from ncsnx.runs.exported import Weights
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.protocols import place_of
from ncsnx.runs.score_files import SCORES, TABLE, Row, ScoreFile, value
from ncsnx.runs.segments import versions
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import ScoreModel, weights_of
from ncsnx.storage.process import this_process


@attrs.frozen(eq=False, kw_only=True)
class CheckpointSweep(Measurement[Candidate]):
    """Measures checkpoints of one run under one protocol."""

    what: ClassVar = "the sweep"

    run: Run
    experiment: Experiment
    """The run's, with whatever is to be used in the place of its own."""
    runtime: Runtime
    note: str = ""
    """A remark for the record of each row."""

    @property
    @abstractmethod
    def score(self) -> Quantity:
        """The number that the best checkpoint has least of, 'score' in a row."""

    @property
    @abstractmethod
    def quantities(self) -> Sequence[Quantity]:
        """What the table shows of a row, the score first."""

    @property
    def weights(self) -> Weights:
        """Which weights of a checkpoint are measured."""
        return weights_of(self.experiment)[0]

    @property
    def metric(self) -> str:
        """What the score is called."""
        return self.score.title

    @property
    @abstractmethod
    def kept_in(self) -> tuple[Path, str]:
        """The run's folder for such sweeps, and how the name of this one begins: a digest of the protocol follows."""

    @abstractmethod
    def seconds(self, candidate: Candidate) -> float:
        """How long a candidate will take, by what is timed now. Raises NcsnxError."""

    @property
    def pictures(self) -> Sequence[str]:
        """Names of the files that `draw` makes."""
        return ("scores.png", "scores.svg")

    @abstractmethod
    def draw(self) -> object:
        """Draws all rows that there are into `pictures`. Raises NcsnxError."""

    @abstractmethod
    def conclusion(self, best: Row) -> list[str]:
        """What is to be said at the end, a line each."""

    # -------------------------------------------------------------------------------------- rows, and what they lack

    @cached_property
    def place(self) -> Path:
        protocol, (folder, begins) = self.protocol(), self.kept_in
        return place_of(folder, f"{begins}-{digest(protocol)[:8]}", protocol, SCORES)

    @cached_property
    def scores(self) -> ScoreFile:
        """The rows that there are. Raises NcsnxError for a damaged file."""
        return ScoreFile.open(self.place, self.protocol(), self.metric, self.caption())

    def rows(self, candidates: Sequence[Candidate]) -> list[Row]:
        """Those of the candidates that have one."""
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
        return f"its {self.metric} is {row['score']:g}, beyond what a score can be"

    def describes_itself_anew(self) -> bool:
        """Sets what the file of the scores says beside its rows, without writing; whether that changes it."""
        return False

    def lacks(self, row: Row) -> bool:
        """Whether a row has no numbers of what is measured by now."""
        return False

    def can_fill(self, row: Row) -> bool:
        """Whether what it takes to fill such a row seems to have been kept."""
        return False

    def fill(self, row: Row) -> Row | None:
        """A row with what it lacks, from what was kept; None where that isn't there."""
        return None

    # ----------------------------------------------------------------------------------------------- a checkpoint

    def name(self, subject: Candidate) -> str:
        return f"step {subject.step:,}"

    def mark(self, subject: Candidate) -> str:
        return f"{step_name(subject.step)}-{subject.weights_sha256[:8]}"

    def load(self, candidate: Candidate) -> list[ScoreModel]:
        """The models of a candidate. Raises UnsoundError for a checkpoint that is damaged, gone or another by now."""
        models = [load_member(self.run, member, self.runtime) for member in candidate.members]
        if len(models) == 1 and models[0].weights_sha256 != candidate.weights_sha256:
            raise UnsoundError(f"the checkpoint of step {candidate.step:,} has been replaced meanwhile")
        return [attrs.evolve(model, experiment=self.experiment) for model in models]

    # ---------------------------------------------------------------------------------------------- what is shown

    def caution(self) -> str | None:
        """What is to be known before its numbers are compared with others; None where nothing is."""
        return None

    @property
    def titles(self) -> list[str]:
        """Titles of the table's columns."""
        return ["step", *(one.title for one in self.quantities)]

    def cells(self, row: Row) -> list[str]:
        """A row of the table."""
        return [f"{row['step']:,}", *(one.shown(row) for one in self.quantities)]

    def perfect_cells(self) -> list[str] | None:
        """The last row of the table, of what a perfect model would have; None where that isn't known."""
        return None

    def context(self) -> dict[str, Any]:
        """What each row says of the sweep, as JSON."""
        return {"metric": self.scores.metric, "protocol": {"caption": self.scores.caption, **self.scores.protocol}}

    @property
    def pictures_in_words(self) -> str:
        """Names of the plots that are there."""
        return ", ".join(name for name in self.pictures if (self.place / name).is_file())

    def draw_what_is_due(self) -> None:
        """Makes the CSV and the plot of all rows, unless those that are there show them already. Raises NcsnxError."""
        if self.scores.rows and self.scores.is_newer_than([TABLE, *self.pictures]):
            self.scores.write_table()
            self.draw()

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        """How rows came about, for the record: not what determines them."""
        return {**this_process(), "note": self.note, "runtime": self.runtime.facts(), "versions": versions()}
