"""A trial of a sampler comparison, as one line of its file, written by `ncsnx.evaluation.comparison`."""

import attrs

from ncsnx.config import checks
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import REST, VERSION
from ncsnx.runs.score_files import Row, value
from ncsnx.storage.documents import document

_LEAST = {"distance": 0, "evaluations": 1, "seconds": 0}
"""Smallest allowed value of each measured quantity."""


@document("a trial of a comparison")
@attrs.frozen(kw_only=True)
class TrialRecord:
    """A line of the file of trials."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    sampler: Sampler
    seed: int = attrs.field(validator=checks.between(0, 2**63 - 1))
    measured: Row = attrs.field(metadata=REST)
    """Measured values and the runtime."""

    def __attrs_post_init__(self) -> None:
        broken = value(self.measured, "broken")
        if broken is None or not 0 <= broken <= 1:
            said = f"must be between 0 and 1, not {checks.quoted(self.measured.get('broken'))}"
            raise checks.FieldError("broken", said)
        diverged = self.measured.get("distance") is None  # then the other two may be missing too
        for key, least in _LEAST.items():
            number, found = value(self.measured, key), self.measured.get(key)
            if not (number is not None and number >= least) and not (diverged and found is None):
                raise checks.FieldError(key, f"must be a number from {least} on, not {checks.quoted(found)}")
