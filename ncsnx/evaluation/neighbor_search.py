"""Search for the nearest training images of samples, in pixels and features, to tell whether samples are copies.

    neighbors/step-00001500-n64-k5-seed0-1a2b3c4d/
      results.json  distances.csv  grid.png  distances.png  distances.svg

Sample i is image i of the seed, as `ncsnx sample` draws it. Finished batches are saved until the results are written.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import identity
from ncsnx.config.converter import unstructure
from ncsnx.config.variants import tag_of
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.engine import Measurement, MeasurementResult, drawn_pixels, measure_all, missing, writing
from ncsnx.evaluation.memorizing import NEIGHBORHOOD, compared, relative_distances, verdict
from ncsnx.evaluation.nearest_images import Nearest, feature_space, nearest, pixel_space
from ncsnx.evaluation.neighbor_pictures import GridRow, draw_grid, plot_distances
from ncsnx.features.feature_network import FeatureNetwork, unnamed
from ncsnx.features.real_images import DataSource, SplitImages
from ncsnx.quantities import counted, number, percent
from ncsnx.randomness import Purpose, Stream
from ncsnx.results import Column, Table
from ncsnx.runs.names import step_name
from ncsnx.runs.result_records import NeighborRecord, SpaceRecord
from ncsnx.runs.score_files import RESULTS, Row
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.score_model import ScoreModel, weights_in_words
from ncsnx.spelling import parameter
from ncsnx.storage import atomic
from ncsnx.storage.documents import find_document, write_document
from ncsnx.storage.parts import Part
from ncsnx.storage.process import this_process
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
    """Neighbours in one space."""

    samples: Nearest
    held_out: Nearest
    """Neighbours of held-out images; no rows if there are none."""

    def record(self) -> SpaceRecord:
        """The distances of samples compared with those of held-out images."""
        samples, held_out = self.samples.distances, self.held_out.distances
        return SpaceRecord(
            distance=compared(samples[:, 0], held_out[:, 0]),
            relative=compared(relative_distances(samples), relative_distances(held_out)),
        )


@attrs.frozen(eq=False, kw_only=True)
class NeighborSearch(Measurement[None]):
    """A search for neighbours of one checkpoint's samples. Raises UsageError for fewer training images than k."""

    label: ClassVar = "the search"

    model: ScoreModel
    folder: Path
    """The run's folder for searches."""
    source: DataSource
    features: FeatureNetwork | None
    """None to search in pixels only."""
    images: SampleRequest
    k: int
    """Neighbours shown per sample."""
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

    def protocol(self) -> dict[str, Any]:
        model, request = self.model, self.images
        return {
            "measure": "neighbors",
            "version": _VERSION,
            "identity": identity(model.experiment),
            "step": model.step,
            "weights": model.weights,
            "weights_sha256": model.weights_sha256,
            "n": request.n,
            "k": self.k,
            "seed": request.seed,
            "sampler": unstructure(model.experiment.sampler),
            "evaluations": model.evaluations,
            "precision": model.precision,
            "features": None if self.features is None else unnamed(self.features.facts),
            "training": {**self.training.facts, "images": len(self.training)},
            "held_out": self.held_out_count,
            "flips": self.flips,
        }

    def caption(self) -> str:
        model, request = self.model, self.images
        sampler = tag_of(type(model.experiment.sampler))
        seen = "pixels only" if self.features is None else f"pixels and features: {self.features.name}"
        mirrored = " and their mirror images" if self.flips else ""
        return (
            f"step {model.step:,}, {weights_in_words(model.weights)}{model.precision_in_words}, "
            f"{counted(request.n, 'sample')} from seed {request.seed}, sampler {sampler} with "
            f"{model.evaluations_in_words} per image; {counted(len(self.training), 'training image')}{mirrored}, "
            f"{counted(self.held_out_count, 'held-out image')}; {seen}; data {self.source.fingerprint[:8]}"
        )

    @property
    def kept_in(self) -> tuple[Path, str]:
        request = self.images
        return self.folder, f"{step_name(self.model.step)}-n{request.n}-k{self.k}-seed{request.seed}"

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.images.n

    @property
    def batch_size(self) -> int:
        return self.images.batch_size

    def name(self, subject: None) -> str:
        return self.model.run_name

    def mark(self, subject: None) -> str:
        return ""

    def units(self, subject: None) -> int:
        """Sampler states, over all batches."""
        return self.batches * self.model.states

    def parts(self, subject: None, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        drawing = Drawing(model=self.model, request=self.images, data=self.data)
        for batch, pixels, _ in drawn_pixels(drawing, indices, work, advance):
            yield Part(batch, {"images": pixels})

    def carry_out(self, work: Work) -> "NearestTrainingImages":
        """The saved results, searching first if there are none; on rank 0, where the others end. Raises NcsnxError."""
        problems: list[str] = []
        if work.ranks.first(lambda: missing(self, [None]), check_stop=work.check_stop):
            with (
                writing(self, work),
                work.progress("sampling", total=self.units(None), unit="sampler steps") as advance,
            ):
                problems = measure_all(self, missing(self, [None]), work, advance)
        else:
            work.info("the neighbours are already known")
        work.ranks.end_others()
        if not self.is_done(None):
            raise NcsnxError("; ".join(problems))
        return NearestTrainingImages(measurement=self, results=json.loads((self.place / RESULTS).read_bytes()))

    def is_done(self, subject: None) -> bool:
        is_whole = all((self.place / name).is_file() for name in (_TABLE, _GRID))
        return is_whole and find_document(self.place / RESULTS, NeighborRecord) is not None

    def row(self, subject: None, whole: Mapping[str, Tensor], work: Work) -> Row:
        """Searches, writes table and figures, and returns the record of the results."""
        images, indices = whole["images"], self._held_out_indices()
        if len(indices):
            images = torch.cat([images, SplitImages(self.source, "held-out").at(indices).pixels])
        k, n = min(max(self.k, NEIGHBORHOOD), len(self.training)), self.images.n
        spaces = [pixel_space(), *([] if self.features is None else [feature_space(self.features)])]
        near = nearest(images, self.training, spaces, k, flips=self.flips, work=work)
        found = {space.name: Neighbors(one[:n], one[n:]) for space, one in zip(spaces, near, strict=True)}
        atomic.write_bytes(self.place / _TABLE, self._table(found))
        draw_grid(self.place / _GRID, self._grid(images, found))
        plot_distances(
            self.place / _PLOT,
            {name: (space.samples.distances[:, 0], space.held_out.distances[:, 0]) for name, space in found.items()},
            title=f"{self.model.run_name}: distance to the nearest training image",
            caption=self.caption(),
        )
        records = {name: space.record() for name, space in found.items()}
        record = NeighborRecord(
            protocol=self.protocol(),
            caption=self.caption(),
            made=this_process(),
            verdict=verdict(records, n, self.held_out_count) if self.held_out_count else None,
            spaces=records,
        )
        return {"record": record}

    def add(self, subject: None, row: Row) -> None:
        write_document(self.place / RESULTS, row["record"])

    def _table(self, found: Mapping[str, Neighbors]) -> bytes:
        """CSV with a line for each neighbour of a sample, and for the nearest neighbour of each held-out image."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["set", "image", "space", "rank", "training_image", "id", "flipped", "distance", "relative"])
        for space, one in found.items():
            for name, numbers, near, k in (
                ("sample", range(self.images.n), one.samples, self.k),
                ("held-out", self._held_out_indices().tolist(), one.held_out, 1),
            ):
                relative = relative_distances(near.distances)
                for row, image in enumerate(numbers):
                    indices = near.indices[row, :k]
                    for rank, place in enumerate(self.training.at(indices).ids.tolist()):
                        distance = f"{float(near.distances[row, rank]):.9g}"
                        last = f"{float(relative[row]):.9g}" if rank == 0 else ""
                        cells = [int(indices[rank]), place, int(near.flipped[row, rank]), distance, last]
                        lines.writerow([name, image, space, rank + 1, *cells])
        return text.getvalue().encode()

    def _grid(self, images: Tensor, found: Mapping[str, Neighbors]) -> list[GridRow]:
        """The samples that are nearest in pixels, with their neighbours; mirror images are shown and marked with ↔."""
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
class NearestTrainingImages(MeasurementResult):
    """Samples of a model and their nearest training images, compared with held-out images."""

    measurement: NeighborSearch
    results: Mapping[str, Any]
    """Content of results.json: protocol, spaces with their numbers, verdict."""

    @property
    def verdict(self) -> str | None:
        """Whether samples are copies, in words; None without held-out images to compare with."""
        verdict = self.results["verdict"]
        return None if verdict is None else str(verdict["words"])

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


def _share(found: Mapping[str, float]) -> str:
    return f"{percent(found['value'])} ({percent(found['low'])} to {percent(found['high'])})"
