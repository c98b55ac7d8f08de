"""The trials of a comparison of samplers: one setting with one seed each, kept as soon as it is measured."""

from pathlib import Path
from typing import Self

import attrs

from ncsnx.config.sampler import Sampler
from ncsnx.config.strict.complaints import StructureError
from ncsnx.runs.records.trial_record import TrialRecord
from ncsnx.runs.score_files import Row
from ncsnx.samplers.building import revision
from ncsnx.storage.documents.document import document_of
from ncsnx.storage.documents.document_files import append_document
from ncsnx.storage.json_lines import read_records


@attrs.frozen
class Trial:
    """One measurement."""

    sampler: Sampler
    seed: int
    row: Row


@attrs.define
class Trials:
    """What was measured, one line a trial."""

    path: Path
    found: list[Trial]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Those in a file, which need not be there; lines that are no trials are left out. Raises NcsnxError."""
        trials = [trial for row in read_records(path) if (trial := _trial(row)) is not None]
        return cls(path, trials)

    def find(self, sampler: Sampler, seed: int) -> Row | None:
        """The trial of a sampler with a seed."""
        return next((one.row for one in self.found if one.sampler == sampler and one.seed == seed), None)

    def samplers(self, seeds: range) -> list[Sampler]:
        """What was measured with one of the seeds, in the order of the trials."""
        return list(dict.fromkeys(one.sampler for one in self.found if one.seed in seeds))

    def add(self, row: Row) -> None:
        """Keeps a trial, durably. Raises NcsnxError."""
        trial = _trial(row)
        assert trial is not None
        append_document(self.path, document_of(row, TrialRecord, self.path))
        self.found.append(trial)


def is_trial(row: Row) -> bool:
    """Whether a trial can give such numbers."""
    return _trial(row) is not None


def _trial(row: Row) -> Trial | None:
    """What a line says, if it is one that was measured, and with the sampler as it is now."""
    try:
        record = document_of(row, TrialRecord, "a trial")
    except StructureError:
        return None
    if record.sampler_revision != revision(record.sampler):
        return None
    return Trial(record.sampler, record.seed, row)
