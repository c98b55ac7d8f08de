"""Results of a sampler comparison, written by `ncsnx.evaluation.recommendation`."""

from typing import Any

import attrs

from ncsnx.config.variants import OMITTED, REST, VERSION
from ncsnx.runs.score_files import Row
from ncsnx.storage.documents import document


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
