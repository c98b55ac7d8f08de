"""Results of a neighbour search, written by `ncsnx.evaluation.neighbor_search`."""

from pathlib import Path
from typing import Any, Literal

import attrs

from ncsnx.config.checks import FieldError, quoted
from ncsnx.config.variants import OMITTED, VERSION
from ncsnx.storage.documents import document

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
