"""What a comparison of samplers found; `ncsnx.evaluation.comparing.outcome` writes it."""

from typing import Any

import attrs

from ncsnx.config.strict.fields import REST, versioned
from ncsnx.runs.score_files import Row
from ncsnx.storage.documents.document import document


@attrs.frozen(kw_only=True)
class ComparedSampler:
    """One setting of a sampler, with its trials together."""

    sampler: str
    """Tag of the sampler."""
    steps: int | None
    seeds: int
    """How many trials there are."""
    recommended: bool
    measured_again: dict[str, Any] | None
    """The numbers from fresh seeds, where there are any."""
    measured: Row = attrs.field(metadata=REST)
    """See `ncsnx.evaluation.comparing.sampler_comparison.Comparison.summary`."""


@document("the results of a comparison")
@attrs.frozen(kw_only=True)
class ComparisonRecord:
    """What results.json says."""

    schema_version: int = attrs.field(default=1, metadata=versioned(since=2))
    protocol: dict[str, Any]
    caption: str
    rows: tuple[ComparedSampler, ...]
    """The run's own sampler first."""
