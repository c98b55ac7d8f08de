"""Search for the nearest training images of samples, in pixels and features, to tell whether samples are copies.

    neighbors/step-00001500-n64-k5-seed0-1a2b3c4d/  distances.csv  grid.png  distances.png  distances.svg

Sample i is image i of the seed, as `ncsnx sample` draws it. The results are an entry of the run's ledger.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from ncsnx.config.converter import unstructure
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.measure import Measure, drawn_pixels
from ncsnx.evaluation.measuring import measure
from ncsnx.evaluation.memorizing import NEAR_QUANTILE, NEIGHBORHOOD, compared, relative_distances, verdict
from ncsnx.evaluation.nearest_images import Nearest, feature_space, nearest, pixel_space
from ncsnx.evaluation.plots import plot_distances
from ncsnx.features.feature_network import FeatureNetwork, unnamed
from ncsnx.features.real_images import DataSource, SplitImages
from ncsnx.images import GridRow, captioned_grid
from ncsnx.quantities import counted, number, percent
from ncsnx.randomness import Purpose, Stream
from ncsnx.results import Column, Result, Table
from ncsnx.runs.ledger import Quantity, Row, Series, Subject
from ncsnx.runs.measurements import csv_of
from ncsnx.runs.result_records import SpaceRecord
from ncsnx.samplers.building import state_count
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.request import SampleRequest
from ncsnx.spelling import parameter
from ncsnx.storage import atomic
from ncsnx.storage.batch_files import Tensors
from ncsnx.work import Advance, Work

_VERSION = 3
"""Version of the measured numbers; raised when any of them changes."""
_TABLE, _GRID, _PLOT = "distances.csv", "grid.png", "distances"
GRID_ROWS = 20
"""Most samples in the grid, the nearest ones first."""
_HELD_OUT_CHOICE = 2
"""Epoch of the permutation that selects held-out images."""


@attrs.frozen(eq=False)
class Neighbors:
    """Neighbors in one space."""

    samples: Nearest
    held_out: Nearest
    """Neighbors of held-out images; no rows if there are none."""

    def record(self) -> SpaceRecord:
        """The distances of samples compared with those of held-out images."""
        samples, held_out = self.samples.distances, self.held_out.distances
        return SpaceRecord(
            distance=compared(samples[:, 0], held_out[:, 0]),
            relative=compared(relative_distances(samples), relative_distances(held_out)),
        )


@attrs.frozen(eq=False, kw_only=True)
class NeighborSearch(Measure):
    """A search for neighbors of one checkpoint's samples. Raises UsageError for fewer training images than k."""

    tag: ClassVar = "neighbors"
    quantities: ClassVar = (Quantity("verdict", "neighbors"),)

    source: DataSource
    features: FeatureNetwork | None
    """None to search in pixels only."""
    n: int
    """Number of samples."""
    batch_size: int
    k: int
    """Neighbors shown per sample."""
    held_out: int
    """Most held-out images to compare with, chosen by a fixed seed."""
    flips: bool
    """Whether mirror images of training images count."""
    data: Path | None = None
    """The data folder, for samplers that start from training images."""

    def __attrs_post_init__(self) -> None:
        if (count := len(self.training)) < max(2, self.k):
            found = f"the data set has {counted(count, 'training image')}"
            raise UsageError(f"{parameter('k')} {self.k}: {found}; at least {max(2, self.k)} are needed")

    @property
    def training(self) -> SplitImages:
        """The training images that are searched."""
        return SplitImages(self.source, "train")

    @property
    def held_out_count(self) -> int:
        """Number of held-out images that samples are compared with."""
        return min(self.held_out, len(SplitImages(self.source, "held-out")))

    def facts(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "n": self.n,
            "k": self.k,
            "features": None if self.features is None else unnamed(self.features.facts),
            "training": {**self.training.facts, "images": len(self.training)},
            "held_out": self.held_out_count,
            "flips": self.flips,
        }

    def words(self) -> dict[str, str]:
        seen = "pixels only" if self.features is None else f"pixels and features: {self.features.name}"
        mirrored = " and their mirror images" if self.flips else ""
        return {
            "": (
                f"{counted(self.n, 'sample')}; {counted(len(self.training), 'training image')}{mirrored}, "
                f"{counted(self.held_out_count, 'held-out image')}; {seen}"
            ),
            "data": self.source.fingerprint[:8],
        }

    @property
    def kept_as(self) -> str:
        return f"n{self.n}-k{self.k}"

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.n

    def units(self, subject: Subject) -> int:
        """Sampler states, over all batches."""
        return self.batches * state_count(self.spec.sampler, len(self.spec.levels))

    def parts(self, subject: Subject, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Tensors]:
        request = SampleRequest(n=self.n, seed=subject.seed or 0, batch_size=self.batch_size)
        drawing = Drawing(model=self.load(subject)[0], request=request, data=self.data)
        for pixels, taken in drawn_pixels(drawing, indices, work, advance):
            yield {"images": pixels, "evaluations": torch.full((len(pixels),), float(taken))}

    def carry_out(self, work: Work) -> "NearestTrainingImages":
        """The results, searching first if there are none; on rank 0, where the others end. Raises NcsnxError."""
        problems = measure(self, self.subjects, work, "search")
        work.ranks.end_others()
        if (entry := self.entry(self.subjects[0])) is None:
            raise NcsnxError("; ".join(problems))
        return NearestTrainingImages(series=self.series, results=entry.values)

    def is_done(self, subject: Subject) -> bool:
        return super().is_done(subject) and all((self.place / name).is_file() for name in (_TABLE, _GRID))

    def measured(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
        """Searches, writes table and figures, and returns the results."""
        images, indices = whole["images"], self._held_out_indices()
        if len(indices):
            images = torch.cat([images, SplitImages(self.source, "held-out").at(indices).pixels])
        k, n = min(max(self.k, NEIGHBORHOOD), len(self.training)), self.n
        spaces = [pixel_space(), *([] if self.features is None else [feature_space(self.features)])]
        near = nearest(images, self.training, spaces, k, flips=self.flips, work=work)
        found = {space.name: Neighbors(one[:n], one[n:]) for space, one in zip(spaces, near, strict=True)}
        atomic.write_bytes(self.place / _TABLE, self._table(found))
        atomic.write_bytes(self.place / _GRID, captioned_grid(self._grid(images, found)))
        plot_distances(
            self.place / _PLOT,
            {name: (space.samples.distances[:, 0], space.held_out.distances[:, 0]) for name, space in found.items()},
            near=NEAR_QUANTILE,
            title=f"{self.run.name}: distance to the nearest training image",
            caption=self.caption(),
        )
        records = {name: space.record() for name, space in found.items()}
        judged = verdict(records, n, self.held_out_count) if self.held_out_count else None
        evaluations = float(whole["evaluations"].mean())
        return {"verdict": unstructure(judged), "evaluations": evaluations, "spaces": unstructure(records)}

    def _table(self, found: Mapping[str, Neighbors]) -> bytes:
        """CSV with a line for each neighbor of a sample, and for the nearest neighbor of each held-out image."""
        lines = list[dict[str, object]]()
        for space, one in found.items():
            for name, numbers, near, k in (
                ("sample", range(self.n), one.samples, self.k),
                ("held-out", self._held_out_indices().tolist(), one.held_out, 1),
            ):
                relative = relative_distances(near.distances)
                for row, image in enumerate(numbers):
                    indices = near.indices[row, :k]
                    for rank, place in enumerate(self.training.at(indices).ids.tolist()):
                        which = {"set": name, "image": image, "space": space, "rank": rank + 1}
                        found_at = {"training_image": int(indices[rank]), "id": place}
                        distance = f"{float(near.distances[row, rank]):.9g}"
                        last = f"{float(relative[row]):.9g}" if rank == 0 else ""
                        flipped = int(near.flipped[row, rank])
                        lines.append({**which, **found_at, "flipped": flipped, "distance": distance, "relative": last})
        return csv_of(lines)

    def _grid(self, images: Tensor, found: Mapping[str, Neighbors]) -> list[GridRow]:
        """The samples that are nearest in pixels, with their neighbors; mirror images are shown and marked with ↔."""
        rows: list[GridRow] = []
        first = next(iter(found.values())).samples.distances[:, 0]
        for sample in first.argsort(stable=True)[:GRID_ROWS].tolist():
            row = {"sample": [(images[sample], str(sample))]}
            for name, space in found.items():
                near = space.samples
                pixels = self.training.at(near.indices[sample, : self.k]).pixels
                captions = [f"{distance:.3g}" for distance in near.distances[sample].tolist()]
                row[f"nearest in {name}"] = [
                    (image.flip(-1), f"{caption} ↔") if is_flipped else (image, caption)
                    for image, caption, is_flipped in zip(pixels, captions, near.flipped[sample].tolist(), strict=False)
                ]
            rows.append(row)
        return rows

    def _held_out_indices(self) -> Tensor:
        """Indices (m,) int64 of the held-out images to compare with, ascending: a fixed random choice if not all."""
        count = len(SplitImages(self.source, "held-out"))
        order = Stream(0, Purpose.SUBSETS).permutation(count, _HELD_OUT_CHOICE) if count else torch.arange(0)
        return order[: self.held_out_count].sort().values


@attrs.frozen(kw_only=True, repr=False)
class NearestTrainingImages(Result):
    """Samples of a model and their nearest training images, compared with held-out images."""

    series: Series
    results: Mapping[str, Any]
    """The spaces with their numbers, and the verdict."""

    @property
    def folder(self) -> Path:
        """Folder of the table and the pictures."""
        return self.series.folder

    @property
    def caption(self) -> str:
        """The protocol in words."""
        return self.series.caption

    @property
    def verdict(self) -> str | None:
        """Whether samples are copies, in words; None without held-out images to compare with."""
        verdict = self.results["verdict"]
        return None if verdict is None else str(verdict["words"])

    def __repr__(self) -> str:
        return f"neighbors in {self.folder}: {self.verdict}\n  {self.caption}"

    def shown(self) -> Sequence[Table | str]:
        is_compared = self.verdict is not None
        rows = []
        for space, measures in self.results["spaces"].items():
            for kind, found in measures.items():
                row = [space if kind == "distance" else f"{space}, relative", number(found["median"])]
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
        return [*verdict, f"grid: {self.folder / 'grid.png'}; distances.csv; plot: distances.png, .svg"]

    def to_json(self) -> object:
        return {"protocol": self.series.facts, "caption": self.caption, **self.results}

    def remarks(self) -> Sequence[str]:
        return [self.caption]

    def heading(self) -> tuple[str, str]:
        return "neighbors", self.verdict or "no held-out images to compare with"

    def picture(self) -> bytes | None:
        return (self.folder / "grid.png").read_bytes()


def _share(found: Mapping[str, float]) -> str:
    return f"{percent(found['value'])} ({percent(found['low'])} to {percent(found['high'])})"
