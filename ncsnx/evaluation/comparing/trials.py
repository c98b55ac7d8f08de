"""The trials of a comparison of samplers: one setting with one seed each, kept as soon as it is measured."""

from pathlib import Path
from typing import Self

import attrs

from ncsnx.config.codec import structure
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.runs.score_files import Row, value
from ncsnx.samplers.building import REVISION, revision
from ncsnx.storage.json_lines import append_record, read_records

_SEEDS = 2**63


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
        append_record(self.path, row)
        trial = _trial(row)
        assert trial is not None
        self.found.append(trial)


def is_trial(row: Row) -> bool:
    """Whether a trial can give such numbers."""
    return _trial(row) is not None


def _trial(row: Row) -> Trial | None:
    """What a line says, if it is one that was measured, and with the sampler as it is now."""
    seed, broken = row.get("seed"), value(row, "broken")
    if type(seed) is not int or not 0 <= seed < _SEEDS or broken is None or not 0 <= broken <= 1:
        return None
    diverged = row.get("distance") is None  # then it may lack both of the others
    for key, least in (("distance", 0), ("evaluations", 1), ("seconds", 0)):
        number = value(row, key)
        if not (number is not None and number >= least) and not (diverged and row.get(key) is None):
            return None
    try:
        sampler = structure(row["sampler"], Sampler)
    except (NcsnxError, KeyError, TypeError):
        return None
    return Trial(sampler, seed, row) if row.get(REVISION, 1) == revision(sampler) else None
