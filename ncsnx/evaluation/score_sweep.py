"""The scores of a run's checkpoints: images of each, from the same seeds, compared with a reference.

Image i of every checkpoint starts from the same noise, and is driven by the same, so that the curve shows the
checkpoints and not the luck of the draw. Finished batches of features are kept until their checkpoint has its row.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.config.canonical import digest
from ncsnx.config.codec import identity, unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.variants import tag_of
from ncsnx.errors import NcsnxError, require_between
from ncsnx.evaluation.candidates import Candidate, load_member
from ncsnx.evaluation.estimate import seconds_per_features, seconds_per_image
from ncsnx.evaluation.kept_features import is_kept, keep, kept, make_room
from ncsnx.evaluation.references.perfect_model import PerfectModel
from ncsnx.evaluation.references.reference import Reference
from ncsnx.evaluation.score_plot import draw_scores
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.naming import distance_name
from ncsnx.images import save_png, to_uint8
from ncsnx.metrics.metric import VERSIONS, FeatureSets, Metric, all_metrics, measured_by, versions_in
from ncsnx.quantities import counted
from ncsnx.runs.checkpoints.manifest import UnsoundError
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.protocols import place_of
from ncsnx.runs.score_files import FEATURES, SCORES, Row, ScoreFile
from ncsnx.runtime import Runtime
from ncsnx.samplers.building import evaluations, evaluations_in_words, revision_facts, state_count
from ncsnx.samplers.state import Score, State
from ncsnx.sampling.counting import EvaluationCounter
from ncsnx.sampling.generate import never_stop
from ncsnx.sampling.request import LEAST_SCORED, MOST_IMAGES, SampleRequest
from ncsnx.sampling.sample import draw
from ncsnx.sampling.score_model import ScoreModel, weights_of
from ncsnx.storage.atomic import reporting
from ncsnx.storage.parts import Part, assembled, done_indices, write_part
from ncsnx.storage.reading import refuse_links

_TAKEN = "evaluations"
"""In parts and rows: what an image took, of a solver that chooses its steps; the protocol holds any other count."""
VERSION = 1
"""Of what is measured, and by which settings of the metrics: rises with any change of a number, so that rows of another
version aren't taken for rows of this one."""


@attrs.frozen(kw_only=True)
class SweepRequest:
    """How each checkpoint is scored. Raises UsageError for numbers that make no sense."""

    n: int = 1000
    """Images of each checkpoint."""
    seed: int = 0
    batch_size: int = 64
    """Images at once; they don't depend on it, but for rounding."""
    ensemble: int = 1
    """Checkpoints whose scores are averaged: the last so many up to each."""
    keep_images: bool = False
    """Write every image as a PNG."""

    def __attrs_post_init__(self) -> None:
        require_between("n", self.n, LEAST_SCORED, MOST_IMAGES)
        _ = self.images  # checks seed and batch_size
        require_between("ensemble", self.ensemble, 1, 1_000, " checkpoints")

    @property
    def images(self) -> SampleRequest:
        """The images of a checkpoint."""
        return SampleRequest(n=self.n, seed=self.seed, batch_size=self.batch_size)


@attrs.frozen(eq=False, kw_only=True)
class Sweep:
    """Scores checkpoints of one run under one protocol."""

    run: Run
    experiment: Experiment
    """The run's, with the sampler that is to be used."""
    features: FeatureNetwork
    reference: Reference
    perfect_model: PerfectModel | None
    """What a perfect model would score; None where it is unknown."""
    request: SweepRequest
    runtime: Runtime
    data: Path | None = None
    """The data folder, for samplers that start from training images."""

    @property
    def metric(self) -> str:
        """The name of the score."""
        return distance_name(self.features.name)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """What can be measured with these features and this reference."""
        return tuple(one for one in all_metrics() if self.refusal(one) is None)

    def refusal(self, metric: Metric) -> str | None:
        """Why a metric can't be measured here; None where it can."""
        sample = None if self.reference.sample is None else len(self.reference.sample)
        return metric.refusal(features=self.features.name, sample=sample, has_logits=self.features.has_logits)

    @property
    def evaluations(self) -> int | None:
        """Network evaluations that an image takes; None where only sampling shows it."""
        count = evaluations(self.experiment.sampler, self.experiment.schedule.levels)
        return None if count is None else count * self.request.ensemble

    @property
    def units(self) -> int:
        """States of batches that a checkpoint takes: what progress counts."""
        states = state_count(self.experiment.sampler, self.experiment.schedule.levels)
        return len(_batch_starts(self.request)) * states

    def protocol(self) -> dict[str, Any]:
        """What determines a checkpoint's scores, beside its weights."""
        return {
            "measure": "distance",
            "version": VERSION,
            "identity": identity(self.experiment),
            "n": self.request.n,
            "seed": self.request.seed,
            "sampler": unstructure(self.experiment.sampler),
            **revision_facts(self.experiment.sampler),
            "evaluations": self.evaluations,
            "weights": weights_of(self.experiment)[0],
            "ensemble": self.request.ensemble,
            "precision": self.experiment.precision,
            "features": unnamed(self.features.facts),
            "reference": unnamed(self.reference.facts),
        }

    def caption(self) -> str:
        """The protocol in a sentence, for people and for plots."""
        sampler = tag_of(type(self.experiment.sampler))
        members = (
            f", scores of {counted(self.request.ensemble, 'checkpoint')} averaged" if self.request.ensemble > 1 else ""
        )
        weights = "EMA" if weights_of(self.experiment)[0] == "ema" else "raw"
        count = self.evaluations
        each = evaluations_in_words(self.experiment.sampler, self.experiment.schedule.levels)
        each = each if count is None else counted(count, "evaluation")  # of all members
        perfect = self.reference.why_unknown if self.perfect_model is None else self.perfect_model.words
        return (
            f"{counted(self.request.n, 'image')} a checkpoint from seed {self.request.seed}, {weights} "
            f"weights{members}, sampler {sampler} with {each} an image; features: {self.features.name} "
            f"({self.features.facts['sha256'][:8]}); reference: {self.reference.name} "
            f"({self.reference.facts['fingerprint'][:8]}); perfect model: {perfect}"
        )

    def draw(self, scores: ScoreFile) -> tuple[Path, Path]:
        """Draws all scores that there are into scores.png and scores.svg. Raises NcsnxError."""
        return draw_scores(
            scores, metric=self.metric, title=self.run.name, caption=self.caption(), perfect_model=self.perfect_model
        )

    def seconds(self, candidate: Candidate) -> float:
        """How long a candidate's images and their features will take, by what is timed now. Raises NcsnxError."""
        model = self.load(candidate)[0]
        batch_size = min(self.request.batch_size, self.request.n)
        sampling = seconds_per_image(model, batch_size) * model.expected_evaluations * self.request.ensemble
        return (sampling + seconds_per_features(self.features, self.experiment.data.shape)) * self.request.n

    def scores(self) -> ScoreFile:
        """Where this protocol's scores are kept, with those that are there. Raises NcsnxError.

        The perfect model is that of the file until `describe` is called.
        """
        protocol = self.protocol()
        ensemble = f"-ensemble{self.request.ensemble}" if self.request.ensemble > 1 else ""
        kind = self.features.facts["type"]
        name = f"n{self.request.n}-seed{self.request.seed}{ensemble}-{kind}-{digest(protocol)[:8]}"
        place = place_of(self.run.fid, name, protocol, SCORES)
        return ScoreFile.open(place, protocol, self.metric, self.caption())

    def describe(self, scores: ScoreFile) -> bool:
        """Sets what a perfect model would score, and the caption, without writing; whether that changes `scores`."""
        found = None if self.perfect_model is None else self.perfect_model.to_json()
        changes = (scores.perfect_model, scores.caption) != (found, self.caption())
        scores.perfect_model, scores.caption = found, self.caption()
        return changes

    def is_done(self, candidate: Candidate, scores: ScoreFile) -> bool:
        """Whether there is nothing left to do for a candidate."""
        if scores.row(candidate.step, candidate.weights_sha256) is None:
            return False
        return not self.request.keep_images or _count_images(self._images(candidate, scores)) == self.request.n

    def load(self, candidate: Candidate) -> list[ScoreModel]:
        """The models of a candidate. Raises UnsoundError for a checkpoint that is damaged or gone."""
        models = [load_member(self.run, member, self.runtime) for member in candidate.members]
        return [attrs.evolve(model, experiment=self.experiment) for model in models]

    def measure(
        self,
        candidate: Candidate,
        scores: ScoreFile,
        *,
        check_stop: Callable[[], None] = never_stop,
        advance: Callable[[], None] = never_stop,
        at_once: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Row:
        """The row of a candidate. An interrupted one goes on after its last finished batch.

        The batches are kept until `settle` is called, when the row is safe.
        check_stop is asked before each evaluation and ends it by raising; advance is called at each of `units` states.
        at_once surrounds what takes long between evaluations, and may end it anywhere. Raises NcsnxError.
        """
        with at_once():
            models = self.load(candidate)
        if len(models) == 1 and models[0].weights_sha256 != candidate.weights_sha256:
            raise UnsoundError(f"the checkpoint of step {candidate.step:,} has been replaced meanwhile")
        parts = self._parts(candidate, scores)
        images = _ImageWriter(parts / "images") if self.request.keep_images else None
        missing = self._missing(parts, images, advance)
        taken = EvaluationCounter()

        def on_state(batch: Sequence[int], state: State) -> None:
            taken(batch, state)
            advance()

        batches = draw(
            models[0],
            self.request.images,
            missing,
            score=mean_score(models),
            data=self.data,
            check_stop=check_stop,
            on_state=on_state,
        )
        for batch, drawn in batches:
            pixels = to_uint8(drawn)
            if images is not None:
                images(batch, pixels)
            found = self.features(pixels)
            tensors = {"features": found.features} | ({} if found.logits is None else {"logits": found.logits})
            if self.evaluations is None:
                count = taken.of(batch) * self.request.ensemble
                tensors[_TAKEN] = torch.full((len(batch), 1), float(count))
            write_part(parts, Part(torch.tensor(batch, dtype=torch.int64), tensors))
        with at_once():  # distances of 10,000 images take minutes
            whole = assembled(parts, self.request.n)
            taken_by_each = whole.pop(_TAKEN, None)
            row = {
                "step": candidate.step,
                "weights_sha256": candidate.weights_sha256,
                **measured_by(self.metrics, self._sets(whole)),
            }
            if (record := keep(scores, _mark(candidate), whole)) is not None:
                row[FEATURES] = record
            return row if taken_by_each is None else row | {_TAKEN: float(taken_by_each.double().mean())}

    def lacks(self, row: Row) -> tuple[Metric, ...]:
        """The metrics that a row of an earlier time, or of other packages, has no numbers of."""
        return tuple(one for one in self.metrics if not one.is_in(row))

    def can_fill(self, row: Row, scores: ScoreFile) -> bool:
        """Whether it lacks metrics, and its features seem to be kept."""
        return bool(self.lacks(row)) and is_kept(scores, row)

    def fill(self, row: Row, scores: ScoreFile) -> Row | None:
        """The row with the metrics that it lacks, from the features that were kept; None where those aren't there."""
        missing = self.lacks(row)
        tensors = kept(scores, row) if missing else None
        if tensors is None or not self._are_ours(tensors):
            return None
        try:
            found = measured_by(missing, self._sets(tensors))
        except NcsnxError:  # somebody else's features under a hash of his own
            return None
        return {**row, **found, VERSIONS: versions_in(row) | found[VERSIONS]}

    def settle(self, candidate: Candidate, scores: ScoreFile) -> None:
        """Puts kept images in their place and removes the batches of a candidate whose row is kept."""
        parts = self._parts(candidate, scores)
        if self.request.keep_images:
            _ImageWriter(parts / "images").finish(self._images(candidate, scores))
        shutil.rmtree(parts, ignore_errors=True)
        make_room(self.run)

    def _parts(self, candidate: Candidate, scores: ScoreFile) -> Path:
        parts = scores.folder / ".parts" / _mark(candidate)
        refuse_links(parts.parent, parts)
        return parts

    def _images(self, candidate: Candidate, scores: ScoreFile) -> Path:
        images = scores.folder / "images" / _mark(candidate)
        refuse_links(images.parent, images)
        return images

    def _missing(self, parts: Path, images: "_ImageWriter | None", advance: Callable[[], None]) -> list[int]:
        """The indices that have no features yet, or lack an image that is to be kept; the others count as progress."""

        def fits(indices: list[int], shapes: Mapping[str, list[int]]) -> bool:
            names = {"features", "logits"} if self.features.has_logits else {"features"}
            names |= {_TAKEN} if self.evaluations is None else set()
            rows = {shape[0] for shape in shapes.values() if len(shape) == 2}
            return (
                shapes.keys() == names and rows == {len(indices)} and shapes["features"][-1] == self.features.dimensions
            )

        done = done_indices(parts, self.request.n, fits)
        if images is not None and not images.has(done):
            shutil.rmtree(parts, ignore_errors=True)  # begun without keeping images: they have to be drawn again
            done = set()
        missing = [index for index in range(self.request.n) if index not in done]
        for _ in range(self.units * len(done) // self.request.n):
            advance()
        return missing

    def _sets(self, tensors: Mapping[str, Tensor]) -> FeatureSets:
        return FeatureSets(
            features=tensors["features"],
            logits=tensors.get("logits"),
            mean=self.reference.mean,
            covariance=self.reference.covariance,
            sample=self.reference.sample,
            seed=self.request.seed,
        )

    def _are_ours(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether kept tensors have the shapes that this sweep gives them."""
        names = {"features", "logits"} if self.features.has_logits else {"features"}
        rows = {tensor.shape[0] for tensor in tensors.values() if tensor.dim() == 2}
        sound = all(tensor.dtype == torch.float32 and bool(tensor.isfinite().all()) for tensor in tensors.values())
        return (
            tensors.keys() == names
            and sound
            and rows == {self.request.n}
            and tensors["features"].shape[-1] == self.features.dimensions
        )


def mean_score(models: Sequence[ScoreModel]) -> Score:
    """The mean of the models' scores, as the published code averages checkpoints; a single model's is its own."""
    if len(models) == 1:
        return models[0].score
    return lambda x, sigma: torch.stack([model.score(x, sigma) for model in models]).mean(dim=0)


def few_images(n: int, reference: int | None, dimensions: int) -> str | None:
    """A caution where there are fewer images, generated or real, than features; None where there are enough."""
    if n > dimensions:
        if reference is None or reference > dimensions:
            return None
        return (
            f"the reference has {counted(reference, 'image')} for {counted(dimensions, 'feature')}: its covariance "
            "isn't of full rank, and the distance depends on which images these are. It orders checkpoints; compare it "
            "with nothing else"
        )
    return (
        f"{counted(n, 'image')} for {counted(dimensions, 'feature')}: their covariance isn't of full rank, and the "
        "distance is too large by an amount that depends on n. It orders checkpoints and runs at this n; it can't be "
        "compared with published numbers (10,000 or 50,000 images). The kernel distance has no such bias"
    )


def unnamed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts without the name, which may hold a place: what was measured stays the same where a folder is moved."""
    return {key: value for key, value in facts.items() if key != "name"}


def _mark(candidate: Candidate) -> str:
    return f"{step_name(candidate.step)}-{candidate.weights_sha256[:8]}"


class _ImageWriter:
    """Keeps the images of a candidate beside its unfinished parts, until all are there."""

    def __init__(self, folder: Path) -> None:
        refuse_links(folder)
        self.folder = folder

    def has(self, indices: Iterable[int]) -> bool:
        """Whether all these images are there."""
        return all(self._place(index).is_file() for index in indices)

    def _place(self, index: int) -> Path:
        return self.folder / f"{index:05d}.png"

    def __call__(self, batch: Sequence[int], pixels: Tensor) -> None:
        with reporting(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        for index, image in zip(batch, pixels, strict=True):
            save_png(self._place(index), image)

    def finish(self, place: Path) -> None:
        with reporting(place):
            place.parent.mkdir(exist_ok=True)
            if place.exists():
                shutil.rmtree(place)
            self.folder.rename(place)


def _count_images(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.png"))


def _batch_starts(request: SweepRequest) -> range:
    return range(0, request.n, request.batch_size)
