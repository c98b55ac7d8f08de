"""Samplers compared on one checkpoint: quality against evaluations, from the same noise, over several seeds.

    compare/step-00001500-n1000-classifier-1a2b3c4d/trials.jsonl  results.json  samplers.png  samplers.svg

A trial is one setting of a sampler with one seed; it is kept as soon as it is measured, so that a comparison that was
interrupted goes on. The least of many measurements is less than what its setting would give another time, so the
setting that is chosen is measured again, with seeds that nothing is chosen by.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch

from ncsnx.config.canonical import digest
from ncsnx.config.codec import unstructure
from ncsnx.config.command_words import typed
from ncsnx.config.sampler import GridSampler, Sampler
from ncsnx.config.variants import tag_of
from ncsnx.errors import DivergedError, NcsnxError
from ncsnx.evaluation.comparing.roughness import is_broken
from ncsnx.evaluation.comparing.settings import LEAST_SAVING
from ncsnx.evaluation.comparing.trials import Trials, is_trial
from ncsnx.evaluation.references.reference import Reference
from ncsnx.evaluation.score_sweep import unnamed
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.naming import distance_name
from ncsnx.images import to_uint8
from ncsnx.metrics.frechet import frechet_distance_of_images
from ncsnx.quantities import counted, percent
from ncsnx.runs.fast_sampler import MOST_BROKEN, TRIALS, FastSampler, is_usable
from ncsnx.runs.folder import open_results
from ncsnx.runs.names import step_name
from ncsnx.runs.protocols import place_of
from ncsnx.runs.score_files import Row, value
from ncsnx.samplers.building import evaluations, revision_facts, state_count
from ncsnx.samplers.state import State
from ncsnx.sampling.counting import EvaluationCounter
from ncsnx.sampling.generate import never_stop
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.sample import draw
from ncsnx.sampling.score_model import ScoreModel
from ncsnx.storage.parts import Part, assembled, missing_indices, write_part
from ncsnx.storage.reading import refuse_links
from ncsnx.work import Advance

VERSION = 1
"""Of what is measured: rises with any change of a number."""
RESULTS = "results.json"
MOST_SEEDS = 100
"""That are compared by."""
_FRESH = 1_000
"""The first of the seeds with which the chosen setting is measured again: beyond all that are compared by."""
_VALUES = ("broken", "evaluations", "seconds")
"""Of each image of a trial."""


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
    def first_seeds(self) -> range:
        """Those of every setting, by which one is chosen."""
        return range(self.seeds)

    @property
    def fresh_seeds(self) -> range:
        """Those with which the chosen one is measured again, as many."""
        return range(_FRESH, _FRESH + self.seeds)

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
            f"step {self.model.step:,}, {weights} weights, {counted(self.n, 'image')} from each of "
            f"{counted(self.seeds, 'seed')}; "
            f"features: {self.features.name} ({self.features.facts['sha256'][:8]}); reference: {self.reference.name}; "
            "broken: rougher than any real image"
        )

    @cached_property
    def place(self) -> Path:
        """Where it is kept."""
        protocol = self.protocol()
        name = f"{step_name(self.model.step)}-n{self.n}-{self.features.facts['type']}-{digest(protocol)[:8]}"
        return place_of(self.folder, name, protocol, RESULTS)

    def open_place(self) -> Path:
        """The folder that it is kept in, made if need be. Raises NcsnxError."""
        return open_results(self.folder, self.place)

    def trials(self) -> Trials:
        """The trials that there are already. Raises NcsnxError."""
        return Trials.read(self.place / TRIALS)

    def measure(
        self,
        sampler: Sampler,
        seed: int,
        *,
        check_stop: Callable[[], None] = never_stop,
        advance: Advance = lambda count=1: None,
        at_once: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Row:
        """One trial; an interrupted one goes on after its last finished batch, and those are kept until `settle`.

        A sampler that leaves the finite has no distance, and all images broken; what it took isn't said where only a
        sampling that ends shows it. Raises NcsnxError.
        """
        parts = self._parts(sampler, seed)
        kind = {"sampler": unstructure(sampler), **revision_facts(sampler)}
        row: Row = {**kind, "seed": seed, "runtime": self.model.runtime.facts()}
        try:
            self._draw(sampler, seed, parts, check_stop, advance)
        except DivergedError:
            count = evaluations(sampler, self.model.experiment.schedule.levels)
            return {**row, "distance": None, "broken": 1.0, "evaluations": count, "seconds": None}
        with at_once():
            found = assembled(parts, self.n)
            distance = frechet_distance_of_images(found["features"], self.reference.mean, self.reference.covariance)
        means = dict(zip(_VALUES, found["values"].double().mean(dim=0).tolist(), strict=True))
        row |= {"distance": distance, **means, "evaluations": _whole(means["evaluations"])}
        if not is_trial(row):  # somebody else wrote them
            raise NcsnxError(f"{parts} holds numbers that no trial gives; remove it and repeat the command")
        return row

    def settle(self, sampler: Sampler, seed: int) -> None:
        """Removes the batches of a trial that is kept."""
        shutil.rmtree(self._parts(sampler, seed), ignore_errors=True)

    def _draw(self, sampler: Sampler, seed: int, parts: Path, check_stop: Callable[[], None], advance: Advance) -> None:
        """Writes the parts of a trial that aren't there yet."""
        model = attrs.evolve(self.model, experiment=attrs.evolve(self.model.experiment, sampler=sampler))
        missing, taken = self._missing(parts), EvaluationCounter()
        advance(self.states(sampler) * (self.n - len(missing)) // self.n)

        def on_state(batch: Sequence[int], state: State) -> None:
            taken(batch, state)
            advance()

        begun_s = time.perf_counter()
        request = SampleRequest(n=self.n, seed=seed, batch_size=self.batch_size)
        for batch, drawn in draw(model, request, missing, data=self.data, check_stop=check_stop, on_state=on_state):
            pixels = to_uint8(drawn).cpu()
            seconds = (time.perf_counter() - begun_s) / len(batch)
            broken = is_broken(pixels, self.limit).float()
            each = torch.tensor([taken.of(batch), seconds]).expand(len(batch), 2)
            values = torch.cat([broken[:, None], each], dim=1)
            tensors = {"features": self.features(pixels).features, "values": values}
            write_part(parts, Part(torch.tensor(batch, dtype=torch.int64), tensors))
            begun_s = time.perf_counter()

    def _missing(self, parts: Path) -> list[int]:
        """The images that nothing is known of yet."""

        def fits(indices: list[int], shapes: Mapping[str, list[int]]) -> bool:
            count = len(indices)
            return shapes == {"features": [count, self.features.dimensions], "values": [count, len(_VALUES)]}

        return missing_indices(parts, self.n, fits)

    def _parts(self, sampler: Sampler, seed: int) -> Path:
        parts = self.place / ".parts" / f"{digest({**unstructure(sampler), **revision_facts(sampler)})[:16]}-seed{seed}"
        refuse_links(parts.parent, parts)
        return parts

    def row(self, sampler: Sampler, trials: Trials, seeds: Iterable[int]) -> Row:
        """The trials of a sampler together: the mean distance with its standard deviation over the seeds."""
        found = [one for seed in seeds if (one := trials.find(sampler, seed)) is not None]
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

    def states(self, sampler: Sampler) -> int:
        """What progress counts of a trial."""
        return -(-self.n // self.batch_size) * state_count(sampler, self.model.experiment.schedule.levels)


@attrs.frozen
class Verdict:
    """What a comparison recommends."""

    found: FastSampler | None
    again: Mapping[Sampler, Row]
    """What was measured again: first the settings that turned out to be unusable, then the recommended one."""
    reason: str = ""
    """Why nothing is recommended, where nothing is."""


def recommend(
    own: Row,
    rows: Sequence[tuple[Sampler, Row]],
    step: int,
    protocol: dict[str, Any],
    measured_again: Callable[[Sampler], Row],
) -> Verdict:
    """The nearest to the data of the usable settings with at most a twelfth of the own sampler's evaluations.

    measured_again: gives the row of a setting from fresh seeds. Its numbers are those of the recommendation, and where
    they make the setting unusable, the next one is taken. The own sampler isn't measured again: it wasn't chosen for
    its numbers, so they are as good as fresh ones.
    """
    n, again = protocol["n"], dict[Sampler, Row]()
    if own["evaluations"] is None:
        return Verdict(None, again, "the run's own sampler diverged, and how many evaluations it takes isn't known")
    fast = [
        (sampler, row)
        for sampler, row in rows
        if row["seeds"] == own["seeds"]
        and row["evaluations"] is not None
        and row["evaluations"] * LEAST_SAVING <= own["evaluations"]
    ]
    usable = [(sampler, row) for sampler, row in fast if is_usable(row, own, n)]
    for sampler, row in sorted(usable, key=lambda pair: float(pair[1]["distance"])):
        again[sampler] = measured_again(sampler)
        if is_usable(again[sampler], own, n):
            return Verdict(FastSampler(sampler, step, again[sampler], own, protocol, chosen_by=row), again)
    return Verdict(None, again, _why_nothing(own, fast, again))


def _why_nothing(own: Row, fast: Sequence[tuple[Sampler, Row]], again: Mapping[Sampler, Row]) -> str:
    few = f"at most a twelfth of the own sampler's {counted(own['evaluations'], 'evaluation')}"
    if not fast:
        return f"no setting that was measured takes {few}"
    shares = [again.get(sampler, row)["broken"] for sampler, row in fast]
    return (
        f"no setting with {few} is usable: the best of {len(fast):,} breaks {percent(min(shares))} of its images, and "
        f"the run's own sampler {percent(own['broken'])} (usable: at most {percent(MOST_BROKEN)}, and not clearly more "
        "than the own sampler)"
    )


def _mean(found: Sequence[Row], key: str) -> float | None:
    """Over the trials that know it."""
    known = [number for one in found if (number := value(one, key)) is not None]
    return statistics.fmean(known) if known else None


def _whole(number: float | None) -> float | None:
    """The number, as an integer where it is one: a mean of equal counts is a count."""
    return int(number) if number is not None and number.is_integer() else number
