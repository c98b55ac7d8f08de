"""Scores of a run's checkpoints: images of each, from the same seeds, compared with a reference.

Image i of every checkpoint uses the same initial noise and the same Langevin noise, so that differences between
checkpoints aren't differences between draws.

The features of scored checkpoints are kept, so that metrics added later can be computed without drawing images again:

    fid/n1000-seed0-classifier-1a2b3c4d/features/step-00001500-5e6f7a8b.safetensors

The files are expendable: a run keeps at most MOST_FEATURES_BYTES of them, the newest. A missing or damaged file is no
error; its row just keeps the numbers it has.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ncsnx.config.codec import identity
from ncsnx.config.converter import unstructure
from ncsnx.config.variants import tag_of
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.checkpoint_sweep import Candidate, CheckpointSweep
from ncsnx.evaluation.engine import drawn_pixels, mean_score, writing
from ncsnx.evaluation.reference import Reference
from ncsnx.features.feature_network import FeatureNetwork, unnamed
from ncsnx.metrics.metric import VERSIONS, FeatureSets, Metric, Quantity, all_metrics, measured_by, versions_in
from ncsnx.quantities import counted
from ncsnx.ranks.rank_group import ALONE
from ncsnx.runs.folder import Run
from ncsnx.runs.score_files import FEATURES, MOST_FEATURES_BYTES, Row
from ncsnx.samplers.building import evaluations, evaluations_in_words, state_count
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.request import SampleRequest
from ncsnx.storage import atomic
from ncsnx.storage.parts import Part
from ncsnx.work import Advance, Work

_TAKEN = "evaluations"
"""Key in parts and rows of the evaluations per image of an adaptive solver; a fixed number is in the protocol."""
_VERSION = 1
"""Version of the measurement and the metrics' settings; raised when any number changes, so that rows of different
versions are kept apart."""


@attrs.frozen(eq=False, kw_only=True)
class DistanceSweep(CheckpointSweep):
    """Scores checkpoints of one run by the distance of their images to a reference."""

    features: FeatureNetwork
    reference: Reference
    images: SampleRequest
    """The images of each checkpoint."""
    ensemble: int = 1
    """K for an ensemble: the scores of the last K checkpoints up to each are averaged."""
    data: Path | None = None
    """The data folder, for samplers that start from training images."""
    requested: Sequence[Metric] | None = ()
    """Metrics that the table shows in addition; None for all of them."""

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that these features and this reference allow."""
        return tuple(one for one in all_metrics() if self.refusal(one) is None)

    def refusal(self, metric: Metric) -> str | None:
        """Why a metric can't be measured here; None if it can."""
        sample = None if self.reference.sample is None else len(self.reference.sample)
        return metric.refusal(features=self.features.name, sample=sample, has_logits=self.features.has_logits)

    @property
    def quantities(self) -> list[Quantity]:
        shown = [one for one in self.metrics if self.requested is None or one in self.requested or not one.on_request]
        every = [quantity for one in shown for quantity in one.quantities]
        titled = [attrs.evolve(quantity, title=quantity.name(self.features.name)) for quantity in every]
        return titled if self.evaluations is not None else [*titled, Quantity(_TAKEN, decimals=0)]

    @property
    def kept_in(self) -> tuple[Path, str]:
        ensemble = f"-ensemble{self.ensemble}" if self.ensemble > 1 else ""
        kind = self.features.facts["type"]
        return self.run.fid, f"n{self.images.n}-seed{self.images.seed}{ensemble}-{kind}"

    @property
    def evaluations(self) -> int | None:
        """Network evaluations per image, of all members together; None for adaptive solvers."""
        count = evaluations(self.experiment.sampler, self.experiment.schedule.levels)
        return None if count is None else count * self.ensemble

    def protocol(self) -> dict[str, Any]:
        return {
            "measure": "distance",
            "version": _VERSION,
            "identity": identity(self.experiment),
            "n": self.images.n,
            "seed": self.images.seed,
            "sampler": unstructure(self.experiment.sampler),
            "evaluations": self.evaluations,
            "weights": self.weights,
            "ensemble": self.ensemble,
            "precision": self.precision,
            "features": unnamed(self.features.facts),
            "reference": unnamed(self.reference.facts),
        }

    def caption(self) -> str:
        sampler = tag_of(type(self.experiment.sampler))
        members = f", scores of {counted(self.ensemble, 'checkpoint')} averaged" if self.ensemble > 1 else ""
        count = self.evaluations
        each = evaluations_in_words(self.experiment.sampler, self.experiment.schedule.levels)
        each = each if count is None else counted(count, "evaluation")
        perfect = self.reference.why_unknown if self.perfect_model is None else self.perfect_model.words
        return (
            f"{counted(self.images.n, 'image')} per checkpoint from seed {self.images.seed}, "
            f"{self.weights_and_precision}{members}, sampler {sampler} with {each} per image; "
            f"features: {self.features.name}; reference: {self.reference.name} "
            f"({self.reference.facts['fingerprint'][:8]}); perfect model: {perfect}"
        )

    def caution(self) -> str | None:
        n, of_reference, dimensions = self.images.n, self.reference.count, self.features.dimensions
        if min(n, of_reference or n) > dimensions:
            return None
        few = counted(n, "image")
        if of_reference is not None and of_reference < n:
            few = f"a reference of {counted(of_reference, 'image')}"
        return (
            f"{few} for {counted(dimensions, 'feature')}: the distance is too large by an amount that depends on the "
            "number of images. Compare it at this number only, not with published numbers (10,000 or 50,000 images). "
            "The kernel distance has no such bias"
        )

    # ----------------------------------------------------------------------------------------------- a checkpoint

    @property
    def count(self) -> int:
        return self.images.n

    @property
    def batch_size(self) -> int:
        return self.images.batch_size

    def units(self, subject: Candidate) -> int:
        """Sampler states, over all batches."""
        return self.batches * state_count(self.experiment.sampler, self.experiment.schedule.levels)

    def parts(self, subject: Candidate, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        with work.at_once():
            models = self.load(subject)
        drawing = Drawing(model=models[0], request=self.images, data=self.data)
        for batch, pixels, taken in drawn_pixels(drawing, indices, work, advance, mean_score(models)):
            extracted = self.features(pixels)
            tensors = {"features": extracted.features}
            if extracted.logits is not None:
                tensors["logits"] = extracted.logits
            if self.evaluations is None:
                tensors[_TAKEN] = torch.full((len(batch), 1), float(taken * self.ensemble))
            yield Part(batch, tensors)

    def measured(self, subject: Candidate, whole: Mapping[str, Tensor]) -> Row:
        tensors = {name: tensor for name, tensor in whole.items() if name != _TAKEN}
        row = measured_by(self.metrics, self._sets(tensors))
        save_features(self._kept(subject), tensors)
        make_room(self.run)
        return row if self.evaluations is not None else row | {_TAKEN: float(whole[_TAKEN].double().mean())}

    # ------------------------------------------------------------------------------------ rows and missing numbers

    def complete(self, candidates: Sequence[Candidate], work: Work) -> None:
        for candidate in candidates:
            row = self.row_of(candidate)
            if row is None or not self._lacking(row) or (tensors := load_features(self._kept(candidate))) is None:
                continue
            with writing(self, attrs.evolve(work, ranks=ALONE)), work.at_once():
                row = self.row_of(candidate) or row  # another process may have completed it in the meantime
                measured = measured_by(self._lacking(row), self._sets(tensors))
                versions = {VERSIONS: versions_in(row) | measured[VERSIONS]}
                self.scores.add({**row, **measured, **versions}, self.scores.changed)

    def _kept(self, candidate: Candidate) -> Path:
        """The file of a checkpoint's features."""
        return self.place / FEATURES / f"{self.mark(candidate)}.safetensors"

    def _lacking(self, row: Row) -> tuple[Metric, ...]:
        """The metrics whose current numbers a row lacks, since it is older or from other packages."""
        return tuple(one for one in self.metrics if not one.is_in(row))

    def _current(self, row: Row) -> Row:
        """The row without numbers of outdated versions of metrics."""
        old = {key for one in self._lacking(row) for quantity in one.quantities for key in quantity.keys}
        return {key: found for key, found in row.items() if key not in old}

    def _sets(self, tensors: Mapping[str, Tensor]) -> FeatureSets:
        return FeatureSets(
            features=tensors["features"],
            logits=tensors.get("logits"),
            mean=self.reference.mean,
            covariance=self.reference.covariance,
            sample=self.reference.sample,
            seed=self.images.seed,
        )

    # ------------------------------------------------------------------------------------------------------ output

    def cells(self, row: Row) -> list[str]:
        return super().cells(self._current(row))

    def context(self) -> dict[str, Any]:
        return {**super().context(), "perfect_model": self.scores.perfect_model}

    def remarks(self) -> list[str]:
        perfect, lacking = self.perfect_model, sum(bool(self._lacking(row)) for row in self.scores.rows)
        unknown = f"newer metrics are unknown for {counted(lacking, 'checkpoint')}, whose features were not kept"
        return [
            f"perfect model: {self.reference.why_unknown if perfect is None else f'{self.metric} {perfect}'}",
            *([unknown] if lacking else []),
        ]


def save_features(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors, each (n, …) float32, unless they are too large or can't be written, which affects no score."""
    if sum(tensor.nbytes for tensor in tensors.values()) > MOST_FEATURES_BYTES:
        return
    with contextlib.suppress(NcsnxError), atomic.reporting(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, safetensors.torch.save({key: one.contiguous() for key, one in tensors.items()}))


def load_features(path: Path) -> dict[str, Tensor] | None:
    """The tensors in a file; None if it is missing or damaged."""
    try:
        return safetensors.torch.load(path.read_bytes())  # not mapped: the file may be removed meanwhile
    except (OSError, SafetensorError):
        return None


def make_room(run: Run, most_bytes: int = MOST_FEATURES_BYTES) -> None:
    """Removes the oldest kept features of the run's sweeps until the others have at most `most_bytes`."""
    files = [*run.fid.glob(f"*/{FEATURES}/step-*.safetensors")]
    total = 0
    with contextlib.suppress(OSError):  # another process removes some too
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            total += path.stat().st_size
            if total > most_bytes:
                path.unlink()
