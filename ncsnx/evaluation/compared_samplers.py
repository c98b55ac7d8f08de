"""Samplers on one checkpoint under one protocol, as `compare` returns them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.overrides import typed
from ncsnx.config.sampler import Sampler
from ncsnx.evaluation.comparison import Comparison
from ncsnx.evaluation.recommendation import Recommendation
from ncsnx.quantities import number, percent, with_error
from ncsnx.results import Column, Result, Table
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import Row


@attrs.frozen(kw_only=True)
class SamplerScore:
    """A sampler, measured with several seeds."""

    sampler: Sampler
    words: str
    """The sampler as it is typed on the command line."""
    evaluations: float | None
    """Network evaluations per image; None for an adaptive sampler that diverged."""
    distance: float | None
    """Mean over the seeds, lower is better; None: it diverged."""
    spread: float | None
    """Standard deviation over the seeds."""
    broken: float
    """Share of images that are rougher than any real one."""
    seconds: float | None
    """Time per image on this machine."""
    seeds: int
    """Number of seeds."""
    again: "SamplerScore | None" = None
    """The same with fresh seeds, which the choice didn't see; None: not measured again."""

    @classmethod
    def of(cls, sampler: Sampler, row: Row, again: Row | None = None) -> "SamplerScore":
        """The score in a row of results.json, and in the one of fresh seeds."""
        names = [field.name for field in attrs.fields(cls) if field.name not in ("sampler", "again")]
        second = None if again is None else cls.of(sampler, again)
        return cls(sampler=sampler, again=second, **{name: row[name] for name in names})


@attrs.frozen(kw_only=True, repr=False)
class ComparedSamplers(Result):
    """Samplers on one checkpoint under one protocol."""

    run: Run
    comparison: Comparison
    verdict: Recommendation
    next_command: str
    """The command that draws with the recommended sampler."""

    @property
    def metric(self) -> str:
        """Name of the distance."""
        return self.comparison.metric

    @property
    def scores(self) -> tuple[SamplerScore, ...]:
        """The scores, those of the run's own sampler first."""
        again = self.verdict.again
        return tuple(SamplerScore.of(sampler, row, again.get(sampler)) for sampler, row in self.verdict.rows)

    @property
    def recommended(self) -> Sampler | None:
        """The sampler that these trials recommend, and that is stored as sampler='fast' unless more images spoke for
        another one; None: no setting is usable."""
        return None if self.verdict.found is None else self.verdict.found.sampler

    @property
    def reason(self) -> str:
        """Why no sampler is recommended; '' if one is."""
        return self.verdict.reason

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Values that determine the distances."""
        return self.comparison.protocol()

    @property
    def caption(self) -> str:
        """The protocol in words."""
        return self.comparison.caption()

    @property
    def folder(self) -> Path:
        """Folder of results.json and the plot."""
        return self.comparison.place

    def __repr__(self) -> str:
        recommended = self.recommended
        verdict = f"none recommended: {self.reason}" if recommended is None else f"recommended: {typed(recommended)}"
        return f"{len(self.scores):,} samplers on {self.run.path}, {verdict}\n  {self.caption}"

    def shown(self) -> Sequence[Table | str]:
        """The table; a setting's second measurement stands below the first."""
        distance = f"{self.metric} ± spread"
        right = (Column(title, "right") for title in ("evaluations", distance, "broken", "s/image"))
        rows: list[list[str]] = []
        for sampler, row in self.verdict.rows:
            again = self.verdict.again.get(sampler)
            rows.append(_cells(row, "" if again is None or not rows else "chosen by"))
            if again is not None:
                result = "fast" if self.verdict.is_found(sampler) else "rejected"
                result = "the run's own" if len(rows) == 1 else result
                rows.append(_cells(again, f"measured again: {result}"))
        fast = [place for place, row in enumerate(rows) if row[-1].endswith(": fast")]
        return [Table(columns=[Column("sampler"), Column("settings"), *right, Column("")], rows=rows, bold=fast)]

    def closing(self) -> Sequence[str]:
        results = f"results: {self.folder}/results.json; plot: samplers.png, .svg"
        return [results] if self.recommended is None else [results, f"next: {self.next_command}"]

    def to_json(self) -> object:
        return self.verdict.to_json()

    def heading(self) -> tuple[str, str]:
        return "samplers", str(self.run.path)

    def remarks(self) -> Sequence[str]:
        return [self.caption]


def _cells(row: Row, remark: str) -> list[str]:
    distance = "diverged" if row["distance"] is None else with_error(row["distance"], row["spread"])
    words = " ".join(word.removeprefix("sampler.") for word in row["words"].split()[1:])
    evaluations = "" if row["evaluations"] is None else f"{row['evaluations']:,.0f}"
    seconds = "" if row["seconds"] is None else number(row["seconds"])
    return [row["sampler"], words, evaluations, distance, percent(row["broken"]), seconds, remark]
