"""Records of results that commands write into a run's folder. Reading them needs no torch.

Samples, comparisons and their trials, and searches for neighbours; scores are in `ncsnx.runs.score_files`.
"""

from pathlib import Path
from typing import Any, Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.checks import FieldError, quoted
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import OMITTED, REST, VERSION
from ncsnx.runs.score_files import Row, value
from ncsnx.storage.documents import document

PROTOCOL_FILE, SAMPLES_FILE = "protocol.json", "samples.safetensors"
TASK_FILE = "task.json"


@document("the record of a sampling")
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
    samples_sha256: str | None = attrs.field(default=None, metadata=OMITTED)
    """sha256 of samples.safetensors (hexadecimal), once complete."""


@attrs.frozen(kw_only=True)
class ComparedSampler:
    """One setting of a sampler, with its trials summarized."""

    sampler: str
    """Tag of the sampler."""
    steps: int | None
    seeds: int
    """Number of trials."""
    recommended: bool
    measured_again: dict[str, Any] | None
    """Measurement with fresh seeds, if any."""
    measured: Row = attrs.field(metadata=REST)
    """See `ncsnx.evaluation.comparison.Comparison.summary`."""


@document("the results of a comparison")
@attrs.frozen(kw_only=True)
class ComparisonRecord:
    """Content of results.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    protocol: dict[str, Any]
    caption: str
    made: dict[str, Any] = attrs.field(factory=dict, metadata=OMITTED)
    """The process that measured last."""
    rows: tuple[ComparedSampler, ...]
    """The run's own sampler first."""


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


Kind = Literal["memorising", "pixels only", "features only", "near to many", "no sign", "undecided"]


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
    held_out_median: float | None
    nearer: float | None
    near: Share | None
    pairs_probability: float | None
    tail_probability: float | None


@attrs.frozen(kw_only=True)
class SpaceRecord:
    """Both measures in one space."""

    distance: MeasureRecord
    relative: MeasureRecord


@document("the results of a search for neighbours", sealed=True)
@attrs.frozen(kw_only=True)
class NeighborRecord:
    """Content of results.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    protocol: dict[str, Any]
    caption: str
    made: dict[str, Any] = attrs.field(factory=dict, metadata=OMITTED)
    """The process that searched."""
    verdict: Verdict | None
    """The conclusion; None without held-out images."""
    spaces: dict[str, SpaceRecord]
    files: dict[str, str]
    """Name of each file beside it → sha256."""

    def __attrs_post_init__(self) -> None:
        if elsewhere := [name for name in self.files if Path(name).name != name]:
            raise FieldError("files", f"must be names without folders, not {quoted(elsewhere[0])}")
        for name, space in self.spaces.items():
            for measure in (space.distance, space.relative):
                compared = [getattr(measure, field.name) for field in attrs.fields(MeasureRecord)[1:]]
                if compared.count(None) != (len(compared) if self.verdict is None else 0):
                    raise FieldError("spaces", f"must say of {quoted(name)} what a verdict rests on, if there is one")
