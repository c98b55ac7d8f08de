"""The sampler that `sampler=fast` selects: the recommendation that `ncsnx compare` stored in a run."""

import math
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config import checks
from ncsnx.config.experiment import MOST_STEPS
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import VERSION
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted, percent, with_error
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row, value
from ncsnx.storage import atomic
from ncsnx.storage.documents import document, read_document, write_document

FAST_FILE, TRIALS = "fast.json", "trials.jsonl"
MOST_BROKEN = 0.1
"""A sampler that breaks a larger share of its images is never recommended."""
_ERRORS = 2
"""Standard errors by which one share of broken images must exceed another to count as larger."""


@document("a sampler that `ncsnx compare` stored", advice="repeat `ncsnx compare`")
@attrs.frozen
class FastSampler:
    """A recommended sampler with its measurements."""

    schema_version: int = attrs.field(default=1, kw_only=True, metadata=VERSION)
    sampler: Sampler
    step: int = attrs.field(validator=checks.between(0, MOST_STEPS))
    """Step of the checkpoint that was measured."""
    row: Row
    """Measurement of the sampler: 'evaluations', 'distance', 'spread', 'broken', 'metric'; with other seeds than the
    selection."""
    own: Row
    """Measurement of the experiment's own sampler with the seeds of `row`."""
    chosen_by: Row = attrs.field(kw_only=True)
    """The measurement that selected it. Its distance is biased low, since it was selected among many."""
    protocol: dict[str, Any]
    """Protocol of all measurements."""

    def __str__(self) -> str:
        is_worse = value(self.own, "distance") is not None and not is_no_worse(self.row, self.own)
        return (
            f"found on step {self.step:,}: measured {'worse' if is_worse else 'no worse'} than the run's own sampler "
            f"with fresh seeds: {_in_words(self.row)}; the run's own: {_in_words(self.own)}"
        )

    @property
    def images(self) -> float:
        """Number of images measured."""
        return (value(self.protocol, "n") or 0) * (value(self.row, "seeds") or 0)


def is_usable(row: Row, own: Row, n: int) -> bool:
    """Whether a sampler is good enough to recommend. n: images per seed.

    It needs a distance, at most MOST_BROKEN broken images, and no more broken images than the run's own sampler, within
    two standard errors.
    """
    broken, own_broken = value(row, "broken"), value(own, "broken")
    if broken is None or own_broken is None or row["distance"] is None:
        return False
    images, own_images = n * row["seeds"], n * own["seeds"]
    both = (broken * images + own_broken * own_images) / (images + own_images)
    error = math.sqrt(both * (1 - both) * (1 / images + 1 / own_images))
    return broken <= min(MOST_BROKEN, own_broken + _ERRORS * error)


def is_no_worse(row: Row, own: Row) -> bool:
    """Whether the measured distance is no larger than the run's own sampler's."""
    distance, most = value(row, "distance"), value(own, "distance")
    return distance is not None and most is not None and distance <= most


def write_fast(run: Run, found: FastSampler) -> Path:
    """Stores the recommendation in the run and replaces an earlier one. Raises NcsnxError."""
    path = run.compare / FAST_FILE
    with atomic.reporting(run.compare):
        run.compare.mkdir(exist_ok=True)
    write_document(path, found)
    return path


def read_fast(run: Run) -> FastSampler:
    """The recommendation stored in the run. Raises NcsnxError if there is none or it is invalid."""
    path = run.compare / FAST_FILE
    try:
        return read_document(path, FastSampler)
    except FileNotFoundError as error:
        raise NcsnxError(
            f"run {run.name!r} has no fast sampler yet", Hint("find one and store it", f"ncsnx compare {run.typed}")
        ) from error


def _in_words(row: Row) -> str:
    numbers = [value(row, key) for key in ("distance", "broken", "evaluations")]
    if None in numbers:
        return "not measured"
    distance, broken, evaluations = (number or 0.0 for number in numbers)
    shown = with_error(distance, value(row, "spread"))
    return f"distance {shown}, {percent(broken)} broken, {counted(evaluations, 'evaluation')}"
