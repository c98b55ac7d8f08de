"""Samplers compared on one checkpoint: quality against evaluations, from the same noise, over several seeds.

    compare/step-00001500-n1000-classifier-1a2b3c4d/trials.jsonl  results.json  samplers.png  samplers.svg

A trial is one setting of a sampler with one seed; it is kept as soon as it is measured, so that a comparison that was
interrupted goes on.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import attrs
import torch

from ncsnx.config.canonical import digest
from ncsnx.config.codec import structure, unstructure
from ncsnx.config.sampler import GridSampler, Sampler
from ncsnx.config.variants import tag_of
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.features import FeatureNetwork
from ncsnx.evaluation.frechet import frechet_distance_of_images
from ncsnx.evaluation.metrics import distance_name
from ncsnx.evaluation.reference import Reference
from ncsnx.evaluation.roughness import count_broken
from ncsnx.evaluation.sweep import unnamed
from ncsnx.images import to_uint8
from ncsnx.runs import atomic
from ncsnx.runs.fast import TRIALS, FastSampler
from ncsnx.runs.names import step_name
from ncsnx.runs.reading import refuse_links
from ncsnx.runs.records import append_record, read_records
from ncsnx.runs.scores import Row, value
from ncsnx.sampling import SampleRequest, ScoreModel, draw
from ncsnx.sampling.build import evaluations
from ncsnx.sampling.generate import DivergedError, never_stop
from ncsnx.sampling.settings import typed

VERSION = 1
"""Of what is measured: rises with any change of a number."""
LEAST_SAVING = 12
"""By so much fewer evaluations than the experiment's own sampler takes, at the least, is called fast."""


@attrs.frozen(eq=False, kw_only=True)
class Comparison:
    """Samplers on one checkpoint, under one protocol."""

    model: ScoreModel
    folder: Path
    """The run's folder for comparisons."""
    features: FeatureNetwork
    reference: Reference
    limit: float
    """The roughness of the roughest real image; an image beyond it is broken."""
    n: int
    seeds: int
    batch_size: int
    data: Path | None = None

    @property
    def metric(self) -> str:
        """The name of the distance."""
        return distance_name(self.features.name)

    def protocol(self) -> dict[str, Any]:
        """What determines a trial's numbers, beside its sampler and seed."""
        model = self.model
        return {
            "measure": "samplers",
            "version": VERSION,
            "step": model.step,
            "weights": model.weights,
            "weights_sha256": model.weights_sha256,
            "n": self.n,
            "precision": model.experiment.precision,
            "features": unnamed(self.features.facts),
            "reference": unnamed(self.reference.facts),
            "roughest": self.limit,
        }

    def caption(self) -> str:
        """The protocol in a sentence."""
        weights = "EMA" if self.model.weights == "ema" else "raw"
        return (
            f"step {self.model.step:,}, {weights} weights, {self.n:,} images from each of {self.seeds} seeds; "
            f"features: {self.features.name} ({self.features.facts['sha256'][:8]}); reference: {self.reference.name}; "
            "broken: rougher than any real image"
        )

    @property
    def place(self) -> Path:
        """Where it is kept."""
        kind = self.features.facts["type"]
        return self.folder / f"{step_name(self.model.step)}-n{self.n}-{kind}-{digest(self.protocol())[:8]}"

    def open_place(self) -> Path:
        """The folder that it is kept in, made if need be. Raises NcsnxError."""
        place = self.place
        refuse_links(self.folder, place)
        with atomic.reporting(place):
            place.mkdir(parents=True, exist_ok=True)
        return place

    def trials(self) -> "Trials":
        """The trials that there are already. Raises NcsnxError."""
        return Trials.read(self.place / TRIALS)

    def measure(
        self,
        sampler: Sampler,
        seed: int,
        *,
        check_stop: Callable[[], None] = never_stop,
        advance: Callable[[], None] = never_stop,
        at_once: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Row:
        """One trial. A sampler that leaves the finite has no distance, and all images broken. Raises NcsnxError."""
        experiment = attrs.evolve(self.model.experiment, sampler=sampler)
        model = attrs.evolve(self.model, experiment=experiment)
        request = SampleRequest(n=self.n, seed=seed, batch_size=self.batch_size)
        row: Row = {
            "sampler": unstructure(sampler),
            "seed": seed,
            "evaluations": _evaluations(model, sampler),
            "runtime": model.runtime.facts(),
        }
        begun_s, judged_s, rough = time.perf_counter(), 0.0, 0
        parts = []
        try:
            batches = draw(
                model,
                request,
                range(self.n),
                data=self.data,
                check_stop=check_stop,
                on_state=lambda batch, state: advance(),
            )
            for _, drawn in batches:
                drawn_s = time.perf_counter()
                pixels = to_uint8(drawn).cpu()
                parts.append(self.features(pixels).features)
                rough += count_broken(pixels, self.limit)
                judged_s += time.perf_counter() - drawn_s
        except DivergedError:
            return {**row, "distance": None, "broken": 1.0, "seconds": (time.perf_counter() - begun_s) / self.n}
        row["seconds"] = (time.perf_counter() - begun_s - judged_s) / self.n
        with at_once():
            distance = frechet_distance_of_images(torch.cat(parts), self.reference.mean, self.reference.covariance)
        return {**row, "distance": distance, "broken": rough / self.n}

    def row(self, sampler: Sampler, trials: "Trials") -> Row:
        """The trials of a sampler together: the mean distance with its standard deviation over the seeds."""
        found = [one for seed in range(self.seeds) if (one := trials.find(sampler, seed)) is not None]
        distances = [distance for one in found if (distance := value(one, "distance")) is not None]
        whole = len(distances) == len(found) > 0
        return {
            "sampler": tag_of(type(sampler)),
            "steps": sampler.steps if isinstance(sampler, GridSampler) else None,
            "evaluations": _evaluations(self.model, sampler),
            "distance": statistics.fmean(distances) if whole else None,
            "spread": statistics.stdev(distances) if whole and len(distances) > 1 else None,
            "broken": statistics.fmean(value(one, "broken") or 0.0 for one in found) if found else None,
            "seconds": statistics.fmean(value(one, "seconds") or 0.0 for one in found) if found else None,
            "seeds": len(found),
            "metric": self.metric,
            "words": typed(sampler),
        }

    def states(self, sampler: Sampler) -> int:
        """What progress counts of a trial."""
        return -(-self.n // self.batch_size) * (_evaluations(self.model, sampler) + 1)


@attrs.frozen
class Trial:
    """One measurement."""

    sampler: Sampler
    seed: int
    row: Row


@attrs.define
class Trials:
    """What was measured, one line a trial."""

    path: Path
    found: list[Trial]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Those in a file, which need not be there; lines that are no trials are left out. Raises NcsnxError."""
        trials = [trial for row in read_records(path) if (trial := _trial(row)) is not None]
        return cls(path, trials)

    def find(self, sampler: Sampler, seed: int) -> Row | None:
        """The trial of a sampler with a seed."""
        return next((one.row for one in self.found if one.sampler == sampler and one.seed == seed), None)

    def samplers(self, seeds: int) -> list[Sampler]:
        """What was measured with one of the first seeds, in the order of the trials."""
        return list(dict.fromkeys(one.sampler for one in self.found if one.seed < seeds))

    def add(self, row: Row) -> None:
        """Keeps a trial, durably. Raises NcsnxError."""
        append_record(self.path, row)
        trial = _trial(row)
        assert trial is not None
        self.found.append(trial)


def missing(comparison: Comparison, samplers: Sequence[Sampler], trials: Trials) -> Iterator[tuple[Sampler, int]]:
    """The trials that are still to be made, seed by seed, so that every sampler has its first number soon."""
    for seed in range(comparison.seeds):
        for sampler in samplers:
            if trials.find(sampler, seed) is None:
                yield sampler, seed


def recommended(
    own: Row, rows: Sequence[tuple[Sampler, Row]], step: int, protocol: dict[str, Any]
) -> FastSampler | None:
    """The nearest to the data of those with a twelfth of the own sampler's evaluations that break no more images.

    None where there is none.
    """
    whole = [
        (sampler, row)
        for sampler, row in rows
        if row["distance"] is not None
        and row["seeds"] == own["seeds"]
        and row["evaluations"] * LEAST_SAVING <= own["evaluations"]
        and row["broken"] <= own["broken"]
    ]
    if not whole:
        return None
    sampler, row = min(whole, key=lambda pair: float(pair[1]["distance"]))
    return FastSampler(sampler, step, row, own, protocol)


def _evaluations(model: ScoreModel, sampler: Sampler) -> int:
    return evaluations(sampler, model.experiment.schedule.levels)


def _trial(row: Row) -> Trial | None:
    """What a line says, if it is one that was measured."""
    seed, distance = row.get("seed"), row.get("distance")
    broken, seconds = value(row, "broken"), value(row, "seconds")
    if type(seed) is not int or seed < 0 or broken is None or not 0 <= broken <= 1 or seconds is None or seconds < 0:
        return None
    if distance is not None and ((known := value(row, "distance")) is None or known < 0):
        return None
    try:
        return Trial(structure(row["sampler"], Sampler), seed, row)
    except (NcsnxError, KeyError, TypeError):
        return None
