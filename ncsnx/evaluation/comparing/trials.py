"""The trials of a comparison of samplers, one setting and seed each, saved as soon as they are measured."""

from pathlib import Path
from typing import Self

import attrs

from ncsnx.config.sampler import Sampler
from ncsnx.config.strict.complaints import StructureError
from ncsnx.runs.result_records import TrialRecord
from ncsnx.runs.score_files import Row
from ncsnx.storage.documents import append_document, document_of
from ncsnx.storage.json_lines import read_records


@attrs.frozen
class Trial:
    """A setting measured with one seed."""

    sampler: Sampler
    seed: int
    row: Row


@attrs.define
class Trials:
    """The trials in a JSON Lines file, one line each."""

    path: Path
    found: list[Trial]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file, which may be missing; lines that aren't valid trials are skipped. Raises NcsnxError."""
        trials = [trial for row in read_records(path) if (trial := _trial(row)) is not None]
        return cls(path, trials)

    def find(self, sampler: Sampler, seed: int) -> Row | None:
        """The row of a sampler with a seed; None if it wasn't measured."""
        return next((one.row for one in self.found if one.sampler == sampler and one.seed == seed), None)

    def samplers(self, seeds: range) -> list[Sampler]:
        """The samplers that were measured with any of the seeds, in the order of the trials."""
        return list(dict.fromkeys(one.sampler for one in self.found if one.seed in seeds))

    def add(self, row: Row) -> None:
        """Saves a trial durably. Raises NcsnxError."""
        trial = _trial(row)
        assert trial is not None
        append_document(self.path, document_of(row, TrialRecord, self.path))
        self.found.append(trial)


def is_trial(row: Row) -> bool:
    """Whether a row has the fields and values of a trial."""
    return _trial(row) is not None


def _trial(row: Row) -> Trial | None:
    """The trial of a line; None if it isn't valid."""
    try:
        record = document_of(row, TrialRecord, "a trial")
    except StructureError:
        return None
    return Trial(record.sampler, record.seed, row)
