"""The sampler that `sampler=fast` means for a run: what `ncsnx compare` found, and for which checkpoint."""

import math
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config import checks
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.config.sampler import Sampler
from ncsnx.config.strict.fields import versioned
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted, percent, with_error
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row, value
from ncsnx.storage import atomic, reading
from ncsnx.storage.documents.document import document
from ncsnx.storage.documents.document_files import read_document, write_document

FAST_FILE, TRIALS = "fast.json", "trials.jsonl"
MOST_BROKEN = 0.1
"""A sampler that breaks a larger share of its images is of no use, whatever the others do."""
_ERRORS = 2
"""By so many standard errors a share of broken images must be larger than another to count as larger."""


@document("a sampler that `ncsnx compare` stored", advice="repeat `ncsnx compare`")
@attrs.frozen
class FastSampler:
    """A recommendation, with what it rests on."""

    schema_version: int = attrs.field(default=1, kw_only=True, metadata=versioned())
    sampler: Sampler
    step: int = attrs.field(validator=checks.between(0, MOST_STEPS))
    """Of the checkpoint that it was found on."""
    row: Row
    """What was measured with it: 'evaluations', 'distance', 'spread', 'broken', 'metric'; with seeds that it wasn't
    chosen by, where there is `chosen_by`."""
    own: Row
    """The same of the experiment's own sampler."""
    chosen_by: Row | None = attrs.field(default=None, kw_only=True)
    """The same as `row`, from the seeds by which it was chosen: the least of many measurements, so too small. None: it
    was stored before winners were measured again."""
    protocol: dict[str, Any]
    """What both were measured by."""

    def __str__(self) -> str:
        again = "" if self.chosen_by is None else ", measured again with fresh seeds"
        return (
            f"found on step {self.step:,}: {_in_words(self.row)}{again}; the run's own sampler: {_in_words(self.own)}"
        )

    @property
    def is_useless(self) -> bool:
        """Whether it breaks too many images, as earlier versions didn't look at."""
        return (value(self.row, "broken") or 0) > MOST_BROKEN

    @property
    def images(self) -> float:
        """How many it rests on."""
        return (value(self.protocol, "n") or 0) * (value(self.row, "seeds") or 0)


def is_usable(row: Row, own: Row, n: int) -> bool:
    """Whether a sampler draws images that are worth having, n of each seed.

    It has a distance, and breaks at most MOST_BROKEN of its images and, by two standard errors, no more than the run's
    own sampler.
    """
    broken, own_broken = value(row, "broken"), value(own, "broken")
    if broken is None or own_broken is None or row["distance"] is None:
        return False
    images, own_images = n * row["seeds"], n * own["seeds"]
    both = (broken * images + own_broken * own_images) / (images + own_images)
    error = math.sqrt(both * (1 - both) * (1 / images + 1 / own_images))
    return broken <= min(MOST_BROKEN, own_broken + _ERRORS * error)


def write_fast(run: Run, found: FastSampler) -> Path:
    """Stores the recommendation in the run, in the place of an earlier one. Raises NcsnxError."""
    path = run.compare / FAST_FILE
    reading.refuse_links(run.compare)
    with atomic.reporting(run.compare):
        run.compare.mkdir(exist_ok=True)
    write_document(path, found)
    return path


def read_fast(run: Run) -> FastSampler:
    """The recommendation that is stored in the run. Raises NcsnxError where there is none, or something else."""
    path = run.compare / FAST_FILE
    reading.refuse_links(run.compare)
    try:
        return read_document(path, FastSampler)
    except FileNotFoundError as error:
        raise NcsnxError(
            f"run {run.name!r} has no fast sampler yet; `ncsnx compare {run.name}` finds one, and stores it"
        ) from error


def _in_words(row: Row) -> str:
    numbers = [value(row, key) for key in ("distance", "broken", "evaluations")]
    if None in numbers:
        return "nothing is known of it"
    distance, broken, evaluations = (number or 0.0 for number in numbers)
    shown = with_error(distance, value(row, "spread"))
    return f"distance {shown}, {percent(broken)} broken, {counted(evaluations, 'evaluation')}"
