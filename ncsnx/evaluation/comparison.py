"""Samplers compared on one checkpoint: quality against evaluations, from the same noise, over several seeds.

    compare/step-00001500-n1000-classifier-1a2b3c4d/trials.jsonl  results.json  samplers.png  samplers.svg

A trial is one setting of a sampler with one seed; it is kept as soon as it is measured, so that a comparison that was
interrupted goes on.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

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
from ncsnx.evaluation.roughness import broken_share
from ncsnx.images import to_uint8
from ncsnx.runs import atomic
from ncsnx.runs.fast import FastSampler
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
            "features": {key: fact for key, fact in self.features.facts.items() if key != "name"},
            "reference": {key: fact for key, fact in self.reference.facts.items() if key != "name"},
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

    def open(self) -> "Trials":
        """The trials that there are already. Raises NcsnxError."""
        place = self.place
        refuse_links(self.folder, place)
        with atomic.reporting(place):
            place.mkdir(parents=True, exist_ok=True)
        return Trials(place / "trials.jsonl", [row for row in read_records(place / "trials.jsonl") if _is_trial(row)])

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
        row: Row = {"sampler": unstructure(sampler), "seed": seed, "evaluations": _evaluations(model, sampler)}
        begun_s = time.perf_counter()
        try:
            batches = draw(
                model,
                request,
                range(self.n),
                data=self.data,
                check_stop=check_stop,
                on_state=lambda batch, state: advance(),
            )
            images = torch.cat([to_uint8(drawn).cpu() for _, drawn in batches])
        except DivergedError:
            return {**row, "distance": None, "broken": 1.0, "seconds": (time.perf_counter() - begun_s) / self.n}
        seconds = (time.perf_counter() - begun_s) / self.n
        with at_once():
            parts = torch.split(images, self.batch_size)
            features = torch.cat([self.features(part).features for part in parts])
            distance = frechet_distance_of_images(features, self.reference.mean, self.reference.covariance)
        return {**row, "distance": distance, "broken": broken_share(images, self.limit), "seconds": seconds}

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


@attrs.define
class Trials:
    """What was measured, one line a trial."""

    path: Path
    rows: list[Row]

    def find(self, sampler: Sampler, seed: int) -> Row | None:
        """The trial of a sampler with a seed."""
        wanted = unstructure(sampler)
        return next((row for row in self.rows if row["sampler"] == wanted and row["seed"] == seed), None)

    def samplers(self) -> list[Sampler]:
        """What was measured, in the order of the first trials; without what this version has no sampler for."""
        found: list[Sampler] = []
        for row in self.rows:
            with suppress(NcsnxError):
                sampler = structure(row["sampler"], Sampler)
                found += [] if sampler in found else [sampler]
        return found

    def add(self, row: Row) -> None:
        """Keeps a trial, durably. Raises NcsnxError."""
        append_record(self.path, row)
        self.rows.append(row)


def missing(comparison: Comparison, samplers: Sequence[Sampler], trials: Trials) -> Iterator[tuple[Sampler, int]]:
    """The trials that are still to be made, seed by seed, so that every sampler has its first number soon."""
    for seed in range(comparison.seeds):
        for sampler in samplers:
            if trials.find(sampler, seed) is None:
                yield sampler, seed


def recommended(own: Row, rows: Sequence[tuple[Sampler, Row]], step: int) -> FastSampler | None:
    """The nearest to the data of those with a twelfth of the own sampler's evaluations that break no more images.

    Where all of them break more, that which breaks the fewest. None where none has so few evaluations.
    """
    few = [
        (sampler, row)
        for sampler, row in rows
        if row["distance"] is not None and row["evaluations"] * LEAST_SAVING <= max(own["evaluations"], LEAST_SAVING)
    ]
    most = own["broken"] or 0.0
    whole = [(sampler, row) for sampler, row in few if row["broken"] <= most]
    if whole:
        sampler, row = min(whole, key=lambda pair: float(pair[1]["distance"]))
    elif few:
        sampler, row = min(few, key=lambda pair: (pair[1]["broken"], pair[1]["distance"]))
    else:
        return None
    return FastSampler(sampler, step, row)


def _evaluations(model: ScoreModel, sampler: Sampler) -> int:
    return evaluations(sampler, model.experiment.schedule.levels)


def _is_trial(row: Row) -> bool:
    match row:
        case {"sampler": dict(), "seed": int(), "broken": broken, "seconds": _}:
            return isinstance(broken, int | float)
    return False
