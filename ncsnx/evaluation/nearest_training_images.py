"""The training images nearest to samples, as `neighbors` returns them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ncsnx.evaluation.neighbor_search import NeighborSearch
from ncsnx.quantities import number, percent
from ncsnx.results import Column, Result, Table


@attrs.frozen(kw_only=True, repr=False)
class NearestTrainingImages(Result):
    """Samples of a model and their nearest training images, compared with held-out images."""

    search: NeighborSearch
    results: Mapping[str, Any]
    """Content of results.json: protocol, spaces with their numbers, verdict."""

    @property
    def folder(self) -> Path:
        """Folder of results.json, distances.csv, grid.png and the plot of distances."""
        return self.search.place

    @property
    def verdict(self) -> str | None:
        """Whether samples are copies, in words; None without held-out images to compare with."""
        verdict = self.results["verdict"]
        return None if verdict is None else str(verdict["words"])

    @property
    def caption(self) -> str:
        """The protocol in words."""
        return self.search.caption()

    def __repr__(self) -> str:
        return f"neighbours in {self.folder}: {self.verdict}\n  {self.caption}"

    def shown(self) -> Sequence[Table | str]:
        is_compared = self.verdict is not None
        rows = []
        for space, measures in self.results["spaces"].items():
            for measure, found in measures.items():
                row = [space if measure == "distance" else f"{space}, relative", number(found["median"])]
                if is_compared:
                    row += [number(found["held_out_median"]), percent(found["nearer"]), _share(found["near"])]
                rows.append(row)
        titles = ["samples"]
        if is_compared:
            titles += ["held out", "nearer than a held-out image", "than all but 5 % of them"]
        columns = [Column("nearest, in the median"), *(Column(title, "right") for title in titles)]
        return [Table(columns=columns, rows=rows)]

    def closing(self) -> Sequence[str]:
        verdict = [] if self.verdict is None else [f"verdict: {self.verdict}"]
        return [*verdict, f"grid: {self.folder / 'grid.png'}; distances.csv; plot: distances.png, .svg; results.json"]

    def to_json(self) -> object:
        return self.results

    def heading(self) -> tuple[str, str]:
        return "neighbours", self.verdict or "no held-out images to compare with"

    def picture(self) -> bytes | None:
        return (self.folder / "grid.png").read_bytes()

    def remarks(self) -> Sequence[str]:
        return [self.caption]


def _share(found: Mapping[str, float]) -> str:
    return f"{percent(found['value'])} ({percent(found['low'])} to {percent(found['high'])})"
