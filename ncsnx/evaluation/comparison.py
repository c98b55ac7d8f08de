"""Samplers compared on one checkpoint: quality against evaluations, from the same noise, over several seeds.

    compare/step-00001500-n1000-classifier-1a2b3c4d/trials.jsonl  results.json  samplers.png  samplers.svg

A trial is one sampler setting with one seed. It is saved as soon as it is measured, so an interrupted comparison
resumes. The smallest of many measured distances is biased low; the chosen setting is therefore measured once again,
with fresh seeds that play no part in the choice.
"""

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.config.complaints import StructureError
from ncsnx.config.converter import unstructure
from ncsnx.config.overrides import typed
from ncsnx.config.sampler import GridSampler, Sampler
from ncsnx.config.variants import tag_of
from ncsnx.errors import DivergedError, NcsnxError
from ncsnx.evaluation.engine import Measurement, drawn_pixels
from ncsnx.evaluation.reference import Reference
from ncsnx.features.feature_network import FeatureNetwork, distance_name, unnamed
from ncsnx.features.real_images import RealImages
from ncsnx.metrics.frechet import frechet_distance_of_images
from ncsnx.quantities import counted
from ncsnx.runs.fast_sampler import TRIALS
from ncsnx.runs.names import step_name
from ncsnx.runs.result_records import TrialRecord
from ncsnx.runs.score_files import Row, value
from ncsnx.samplers.building import evaluations, state_count
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.score_model import ScoreModel, weights_in_words
from ncsnx.storage.cache import cached, finding_place
from ncsnx.storage.documents import append_document, document, document_of
from ncsnx.storage.json_lines import read_records
from ncsnx.storage.parts import Part
from ncsnx.work import SILENT, Advance, Work

_VERSION = 1
"""Version of the measured numbers; raised when any of them changes."""
_FRESH = 1_000
"""First of the seeds with which the chosen setting is measured again, above all seeds of the choice."""
_VALUES = ("broken", "evaluations", "seconds")
"""Values per image of a trial."""
_ROUGHNESS_BATCH = 256

Setting = tuple[Sampler, int]
"""Sampler and seed of a trial."""


@attrs.define
class Trials:
    """The trials in a JSON Lines file, one line each, saved as soon as they are measured."""

    path: Path
    found: list[TrialRecord]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file, which may be missing; lines that aren't valid trials are skipped, such as those of a sampler
        whose package isn't installed any more. Raises NcsnxError."""
        trials = []
        for record in read_records(path):
            with suppress(StructureError):
                trials.append(document_of(record, TrialRecord, path))
        return cls(path, trials)

    def find(self, sampler: Sampler, seed: int) -> Row | None:
        """The measured values of a sampler with a seed; None if it wasn't measured."""
        return next((one.measured for one in self.found if (one.sampler, one.seed) == (sampler, seed)), None)

    def samplers(self, seeds: range) -> list[Sampler]:
        """The samplers that were measured with any of the seeds, in the order of the trials."""
        return list(dict.fromkeys(one.sampler for one in self.found if one.seed in seeds))

    def add(self, row: Row) -> None:
        """Saves a trial durably. Raises NcsnxError."""
        trial = document_of(row, TrialRecord, self.path)
        append_document(self.path, trial)
        self.found.append(trial)


@attrs.frozen(eq=False, kw_only=True)
class Comparison(Measurement[Setting]):
    """Samplers on one checkpoint, under one protocol."""

    label: ClassVar = "the comparison"

    model: ScoreModel
    folder: Path
    """The run's folder for comparisons."""
    features: FeatureNetwork
    reference: Reference
    limit: float
    """The roughness of the roughest real image; rougher images are broken."""
    n: int
    """Images per trial."""
    seeds: int
    """Trials of each setting."""
    batch_size: int
    data: Path | None = None

    @property
    def first_seeds(self) -> range:
        """The seeds of every setting, by which one is chosen."""
        return range(self.seeds)

    @property
    def fresh_seeds(self) -> range:
        """Seeds with which the chosen setting is measured again, equally many."""
        return range(_FRESH, _FRESH + self.seeds)

    @property
    def metric(self) -> str:
        """The name of the distance."""
        return distance_name(self.features.name)

    def protocol(self) -> dict[str, Any]:
        model = self.model
        return {
            "measure": "samplers",
            "version": _VERSION,
            "step": model.step,
            "weights": model.weights,
            "weights_sha256": model.weights_sha256,
            "n": self.n,
            "precision": model.precision,
            "features": unnamed(self.features.facts),
            "reference": unnamed(self.reference.facts),
            "roughest": self.limit,
        }

    def caption(self) -> str:
        return (
            f"step {self.model.step:,}, {weights_in_words(self.model.weights)}{self.model.precision_in_words}, "
            f"{counted(self.n, 'image')} from each of {counted(self.seeds, 'seed')}; "
            f"features: {self.features.name}; reference: {self.reference.name}; "
            "broken: rougher than any real image"
        )

    @property
    def kept_in(self) -> tuple[Path, str]:
        return self.folder, f"{step_name(self.model.step)}-n{self.n}-{self.features.facts['type']}"

    @cached_property
    def trials(self) -> Trials:
        """The finished trials. Raises NcsnxError."""
        return Trials.read(self.place / TRIALS)

    def reload(self) -> None:
        self.trials.found = Trials.read(self.trials.path).found

    def is_done(self, subject: Setting) -> bool:
        return self.trials.find(*subject) is not None

    def add(self, subject: Setting, row: Row) -> None:
        sampler, seed = subject
        runtime = self.model.runtime.facts()
        self.trials.add({"sampler": unstructure(sampler), "seed": seed, "runtime": runtime, **row})

    # ---------------------------------------------------------------------------------------------------- a trial

    @property
    def count(self) -> int:
        return self.n

    def name(self, subject: Setting) -> str:
        sampler, seed = subject
        return f"seed {seed}: {typed(sampler)}"

    def mark(self, subject: Setting) -> str:
        sampler, seed = subject
        return f"{digest(unstructure(sampler))[:16]}-seed{seed}"

    def units(self, subject: Setting) -> int:
        """Sampler states, over all batches."""
        return self.batches * state_count(subject[0], self.model.experiment.schedule.levels)

    def parts(self, subject: Setting, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        sampler, seed = subject
        model = attrs.evolve(self.model, experiment=attrs.evolve(self.model.experiment, sampler=sampler))
        request = SampleRequest(n=self.n, seed=seed, batch_size=self.batch_size)
        begun_s = time.perf_counter()
        drawing = Drawing(model=model, request=request, data=self.data)
        for batch, pixels, taken in drawn_pixels(drawing, indices, work, advance):
            seconds = (time.perf_counter() - begun_s) / len(batch)
            broken = (roughness(pixels) > self.limit).float()
            each = torch.tensor([taken, seconds]).expand(len(batch), 2)
            values = torch.cat([broken[:, None], each], dim=1)
            yield Part(batch, {"features": self.features(pixels).features, "values": values})
            begun_s = time.perf_counter()

    def row(self, subject: Setting, whole: Mapping[str, Tensor], work: Work) -> Row:
        """The row of a trial: the distance, and the means of the values per image. Raises NcsnxError."""
        distance = frechet_distance_of_images(whole["features"], self.reference.mean, self.reference.covariance)
        means = dict(zip(_VALUES, whole["values"].double().mean(dim=0).tolist(), strict=True))
        return {"distance": distance, **means, "evaluations": _whole(means["evaluations"])}

    def failed(self, subject: Setting, error: DivergedError) -> Row:
        """The row of a sampler that diverged: no distance, and all images broken.

        The evaluations of an adaptive solver are None, since only a finished sampling shows them.
        """
        count = evaluations(subject[0], self.model.experiment.schedule.levels)
        return {"distance": None, "broken": 1.0, "evaluations": count, "seconds": None}

    # -------------------------------------------------------------------------------------------- trials together

    def summary(self, sampler: Sampler, seeds: Iterable[int]) -> Row:
        """The row of a sampler over several seeds: mean distance, its standard deviation, and means of the rest."""
        found = [one for seed in seeds if (one := self.trials.find(sampler, seed)) is not None]
        distances = [distance for one in found if (distance := value(one, "distance")) is not None]
        whole = len(distances) == len(found) > 0
        return {
            "sampler": tag_of(type(sampler)),
            "steps": sampler.steps if isinstance(sampler, GridSampler) else None,
            "evaluations": _whole(_mean(found, "evaluations")),
            "distance": statistics.fmean(distances) if whole else None,
            "spread": statistics.stdev(distances) if whole and len(distances) > 1 else None,
            "broken": _mean(found, "broken"),
            "seconds": _mean(found, "seconds"),
            "seeds": len(found),
            "metric": self.metric,
            "words": typed(sampler),
        }


def _mean(found: Sequence[Row], key: str) -> float | None:
    """Mean over the trials that have this value; None if none has it."""
    known = [number for one in found if (number := value(one, key)) is not None]
    return statistics.fmean(known) if known else None


def _whole(number: float | None) -> float | None:
    """The number, as an int if it is whole, as the mean of equal counts is."""
    return int(number) if number is not None and number.is_integer() else number


# Broken images: rougher than every real image, for example because a sampler left noise in them. A few in a hundred
# hardly change a distance between distributions, but people see them at once.


@document("the roughness of real images", sealed=True)
@attrs.frozen(kw_only=True)
class Roughest:
    """The cached result of `roughest`."""

    roughest: float
    """Roughness of the roughest real image."""


def roughness(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, down plus across: (B, C, H, W) uint8 → (B,) float32.

    Pixel values are scaled to [0, 1].
    """
    x = images.float() / 255
    return sum((x.diff(dim=axis) ** 2).mean(dim=(1, 2, 3)) for axis in (2, 3))  # type: ignore[return-value]


def roughest(real: RealImages, cache: Path | None = None, work: Work = SILENT) -> float:
    """The roughness of the roughest real image, computed once and cached. Raises NcsnxError."""

    def find() -> Roughest:
        most = 0.0
        with work.progress("looking for the roughest image", total=len(real), unit="images") as advance:
            for batch in real.batches(_ROUGHNESS_BATCH, work.check_stop):
                most = max(most, float(roughness(batch).max()))
                advance(len(batch))
        return Roughest(roughest=most)

    if len(real) == 0:
        raise NcsnxError(f"{real.title}: there are no real images to compare with")
    place = finding_place("roughness", real.facts, cache)
    return cached(place, Roughest, find, f"a look at {real.title}", work).roughest
