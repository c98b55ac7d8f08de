"""Records that commands write into a run's folder. Reading them needs no torch.

Samples, searches for neighbors, trackers; measurements are in `ncsnx.runs.ledger`.
"""

import re
from typing import Any, Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import OMITTED, REST, VERSION
from ncsnx.spelling import argument
from ncsnx.storage.documents import document

PROTOCOL_FILE = "protocol.json"
TASK_FILE = "task.json"
_IS_KEY = checks.Check("16 hexadecimal digits", re.compile("[0-9a-f]{16}").fullmatch, str)


@document("the record of a sampling", advice=f"choose another folder, or add {argument('overwrite', True)}")
@attrs.frozen(kw_only=True)
class SampleRecord:
    """Content of protocol.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    protocol: dict[str, Any] = attrs.field(metadata=REST)
    """Everything that determines the images."""
    made: dict[str, Any] = attrs.field(factory=dict)
    """Provenance: how the images were made."""
    complete: bool
    """Whether all images are done."""
    samples: dict[str, str] = attrs.field(factory=dict, metadata=OMITTED)
    """The files of samples in the order of their images: name → sha256 (hexadecimal), once complete."""


Kind = Literal["memorizing", "nearer", "no sign", "undecided"]


@attrs.frozen
class Share:
    """A share with its confidence interval; all values in [0, 1]."""

    value: float
    low: float
    high: float


@attrs.frozen
class Verdict:
    """The conclusion, as a kind for programs and words for people."""

    kind: Kind
    words: str


@attrs.frozen(kw_only=True)
class MeasureRecord:
    """Samples and held-out images by one measure; None without held-out images."""

    median: float
    held_out_median: float | None = None
    nearer: float | None = None
    near: Share | None = None
    pairs_probability: float | None = None
    tail_probability: float | None = None


@attrs.frozen(kw_only=True)
class SpaceRecord:
    """Both measures in one space."""

    distance: MeasureRecord
    relative: MeasureRecord


@document("the notes of a tracker", advice="remove it to begin a new record")
@attrs.frozen(kw_only=True)
class TrackerNotes:
    """Content of trackers/TAG.json: what a tracker has been sent. Written under the run's lock."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    name: str = attrs.field(validator=checks.name)
    """Name of the run when the record was begun."""
    record: str = attrs.field(validator=_IS_KEY)
    """Key of the record in the tracker."""
    sent: dict[str, int] = attrs.field(factory=dict)
    """Losses and samples → the last step that was sent; measurements, by digests → their steps."""
