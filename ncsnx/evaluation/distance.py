"""Distances of images to a reference, under any subject: checkpoints (`ncsnx fid`), or samplers and seeds (`compare`).

Image i of every subject uses the same initial noise and the same Langevin noise, so that differences between subjects
aren't differences between draws.

The features of scored checkpoints are kept, so that metrics added later can be computed without drawing images again:

    fid/n1000-classifier-seed0-1a2b3c4d/features/step-00001500-5e6f7a8b.safetensors

The files are expendable: a run keeps at most MOST_FEATURES_BYTES of them, the newest. A missing or damaged file is no
error; its entry just keeps the numbers it has.

Comparisons also count broken images: rougher than every real one, for example because a sampler left noise in them. A
few in a hundred hardly change a distance between distributions, but people see them at once.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ncsnx.config.converter import structure
from ncsnx.config.sampler import Sampler
from ncsnx.errors import DivergedError, NcsnxError, UsageError, printable
from ncsnx.evaluation.measure import Measure, drawn_pixels, mean_score, writing
from ncsnx.evaluation.reference import LEAST_IMAGES, PerfectModel, Reference, measure_perfect_model
from ncsnx.features.feature_network import INCEPTION, FeatureNetwork, name_with, unnamed
from ncsnx.features.moments import Moments
from ncsnx.features.real_images import RealImages
from ncsnx.metrics.frechet import FRECHET_DISTANCE, frechet_distance_of_images
from ncsnx.metrics.metric import VERSIONS, FeatureSets, Metric, Quantity, all_metrics, measured_by
from ncsnx.model_spec import NO_CLASS
from ncsnx.quantities import counted
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import FEATURES, MOST_FEATURES_BYTES, Entry, Row, Subject
from ncsnx.samplers.building import evaluations, state_count
from ncsnx.sampling.drawing import Drawing
from ncsnx.sampling.generation import in_turn
from ncsnx.sampling.request import SampleRequest
from ncsnx.spelling import parameter
from ncsnx.storage import atomic
from ncsnx.storage.batch_files import Tensors
from ncsnx.storage.cache import cache_path, cached
from ncsnx.storage.documents import document
from ncsnx.work import SILENT, Advance, Work

_VERSION = 1
"""Version of the measurement; raised when any number changes, so that numbers of different versions stay apart."""
_IDENTIFIERS = {"score": ("frechet_distance", "fid"), "kernel_distance": ("kernel_distance", "kid")}
"""Identifiers on the Hub, and those with Inception's features, by key; of other numbers the key itself."""
_PER_IMAGE = ("evaluations", "seconds", "broken")


@attrs.frozen(eq=False, kw_only=True)
class Distance(Measure):
    """The distance of the images of each subject to a reference, by all metrics that these allow."""

    tag: ClassVar = "fid"

    features: FeatureNetwork
    reference: Reference
    n: int
    """Images of each subject."""
    batch_size: int
    data: Path | None = None
    """The data folder, for samplers that start from training images."""
    perfect_model: PerfectModel | None = None
    """Score of a perfect model, the noise floor; None if unknown."""
    by_class: bool = False
    """Whether the images of each class are also compared with the real ones of their class."""
    perfect_by_class: tuple[float, ...] = ()
    """Scores of a perfect model, in the order of the asked classes; () if unknown."""

    def __attrs_post_init__(self) -> None:
        if not self.by_class:
            return
        classes, labels = self.spec.classes, self._real_labels
        if not classes or NO_CLASS in classes:
            raise UsageError(
                f"{parameter('classes')} needs images of classes, from a network that is conditional on them"
            )
        if self.n < LEAST_IMAGES * len(classes):
            raise UsageError(
                f"{parameter('classes')} needs at least {LEAST_IMAGES} images of each class, so {parameter('n')} "
                f"{LEAST_IMAGES * len(classes):,} or more"
            )
        for label in classes:
            if (found := int((labels == label).sum())) < LEAST_IMAGES:
                raise UsageError(
                    f"{parameter('classes')} needs at least {LEAST_IMAGES} real images of each class, and class "
                    f"{label} has {found}"
                )

    @cached_property
    def _real_labels(self) -> Tensor:
        """Labels of the reference's sample. Raises UsageError where they aren't known."""
        if self.reference.sample_labels is None:
            raise UsageError(f"{parameter('classes')} needs labeled real images, and {self.reference.name} has none")
        return self.reference.sample_labels()

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that these features and this reference allow."""
        return tuple(one for one in all_metrics() if self.refusal(one) is None)

    def refusal(self, metric: Metric) -> str | None:
        """Why a metric can't be measured here; None if it can."""
        sample = None if self.reference.sample is None else len(self.reference.sample)
        features, model = self.features, self.spec.model
        known = features.facts.get("classes") if not features.facts.get("of_clusters") else None
        has_classes = model is not None and model.classes > 0 and known == model.classes
        return metric.refusal(
            features=features.name,
            sample=sample,
            has_logits=features.has_logits,
            has_classes=has_classes and NO_CLASS not in self.spec.classes,
        )

    @property
    def quantities(self) -> list[Quantity]:
        every = [quantity for one in self.metrics for quantity in one.quantities]
        return [*map(self._named, every), *self._of_classes(), Quantity("evaluations", decimals=0)]

    def _of_classes(self) -> Iterator[Quantity]:
        """The distances of the classes, in the order of the asked classes."""
        names = self.spec.space.class_names
        for place, one in enumerate(self.spec.classes if self.by_class else ()):
            title = printable(names[one]) if one < len(names) else str(one)
            perfect = self.perfect_by_class[place] if self.perfect_by_class else None
            yield Quantity("by_class", title, place=place, perfect=perfect)

    def _named(self, quantity: Quantity) -> Quantity:
        features, title, named = self.features.name, quantity.title, quantity.of_inception
        plain, of_inception = _IDENTIFIERS.get(quantity.key, (quantity.key, quantity.key))
        identifier = of_inception if features == INCEPTION else plain
        title = title if named is None else name_with(features, title, named)
        return attrs.evolve(quantity, title=title, identifier=identifier)

    @property
    def kept_as(self) -> str:
        return f"n{self.n}-{self.features.facts['type']}"

    @property
    def perfect(self) -> dict[str, Any] | None:
        return None if self.perfect_model is None else self.perfect_model.to_json()

    def facts(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "n": self.n,
            "features": unnamed(self.features.facts),
            "reference": unnamed(self.reference.facts),
            **({} if self.spec.space.bounded else {"window": str(self.spec.space.pictures)}),
            **({"by_class": True} if self.by_class else {}),
            **({"classes": list(self.spec.classes)} if self.spec.sampler.classes else {}),
        }

    def words(self) -> dict[str, str]:
        perfect = self.reference.why_unknown if self.perfect_model is None else self.perfect_model.words
        return {
            "": counted(self.n, "image"),
            "features": self.features.name,
            "reference": self.reference.name,
            "perfect model": perfect,
        }

    def caution(self) -> str | None:
        cautions = [self._caution_of_classes(), self._caution_of_number()]
        return "\n".join(filter(None, cautions)) or None

    def _caution_of_classes(self) -> str | None:
        """A warning about images that aren't of all classes, as the reference is."""
        model, asked = self.spec.model, self.spec.sampler.classes
        if not asked or model is None or set(self.spec.classes) in ({NO_CLASS}, set(range(model.classes))):
            return None
        return "the images are of some classes, and the reference is of all: the distance can't be compared with others"

    def _caution_of_number(self) -> str | None:
        n, of_reference, dimensions = self.n, self.reference.count, self.features.dimensions
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

    # -------------------------------------------------------------------------------------------------- a subject

    @property
    def count(self) -> int:
        return self.n

    def sampler(self, subject: Subject) -> Sampler:
        """The sampler of a subject."""
        return structure(subject.sampler, Sampler)

    def evaluations(self, subject: Subject) -> int | None:
        """Network evaluations per image, of all members together; None for adaptive solvers."""
        count = evaluations(self.sampler(subject), len(self.spec.levels), self.spec.levels)
        return None if count is None else count * max(1, len(subject.members))

    def units(self, subject: Subject) -> int:
        """Sampler states, over all batches."""
        return self.batches * state_count(self.sampler(subject), len(self.spec.levels))

    def parts(self, subject: Subject, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Tensors]:
        with work.interruptible():
            models = self.load(subject)
        request = SampleRequest(n=self.n, seed=subject.seed or 0, batch_size=self.batch_size)
        drawing = Drawing(model=models[0], request=request, data=self.data)
        begun_s = time.perf_counter()
        for pixels, taken in drawn_pixels(drawing, indices, work, advance, mean_score(models)):
            seconds = (time.perf_counter() - begun_s) / len(pixels)
            each = torch.tensor([taken * len(models), seconds]).expand(len(pixels), 2)
            yield self.tensors(pixels, each)
            begun_s = time.perf_counter()

    def tensors(self, pixels: Tensor, each: Tensor) -> dict[str, Tensor]:
        """The tensors that a batch keeps until its subject has all of them. each: evaluations and seconds, (B, 2)."""
        extracted = self.features(pixels)
        logits = {} if extracted.logits is None else {"logits": extracted.logits}
        return {"features": extracted.features, "each": each, **logits}

    def measured(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
        tensors = {name: tensor for name, tensor in whole.items() if name != "each"}
        row = measured_by(self.metrics, self._sets(subject, tensors))
        save_features(self._kept(subject), tensors)
        make_room(self.run)
        by_class = {"by_class": self._by_class(whole["features"])} if self.by_class else {}
        return row | by_class | {"evaluations": means(whole["each"])["evaluations"]}

    def _by_class(self, features: Tensor) -> list[float]:
        """The Fréchet distance of the images of each class to the real images of the class in the sample."""
        count = len(self.spec.classes)
        return [
            frechet_distance_of_images(features[place::count], moments.mean, moments.covariance)
            for place, (_, moments) in enumerate(self._real_classes())
        ]

    def _real_classes(self) -> Iterator[tuple[Tensor, Moments]]:
        """Features in the reference's sample, and their moments, of each asked class."""
        assert self.reference.sample is not None
        for one in self.spec.classes:
            real = self.reference.sample[self._real_labels == one]
            moments = Moments.empty(real.shape[1])
            moments.add(real)
            yield real, moments

    def with_perfect_classes(self, work: Work) -> Self:
        """With the scores of a perfect model of each asked class, which are measured here, on rank 0 alone."""
        if not self.by_class or not work.ranks.is_first:
            return self
        count, scores = len(self.spec.classes), list[float]()
        quiet = attrs.evolve(work, progress=SILENT.progress)
        with work.progress("perfect model of each class", total=count, unit="classes") as advance:
            for real, moments in self._real_classes():
                perfect = measure_perfect_model(
                    self.n // count, len(real), moments.mean, moments.covariance, real, quiet
                )
                scores.append(perfect.score)
                advance()
        return attrs.evolve(self, perfect_by_class=tuple(scores))

    # --------------------------------------------------------------------------------------------- missing numbers

    def complete(self, work: Work) -> None:
        for entry in self.entries():
            subject, lacking = entry.subject, self._lacking(entry)
            if not lacking or (tensors := load_features(self._kept(subject))) is None:
                continue
            with writing(self, subject), work.interruptible():
                row = measured_by(lacking, self._sets(subject, tensors))
                entry = self.entry(subject) or entry  # another process may have completed it too
                versions = entry.values.get(VERSIONS, {}) | row[VERSIONS]
                self.ledger.add(self.recorded, subject, row | {VERSIONS: versions}, entry.made)

    def notes(self) -> list[str]:
        lacking = sum(bool(self._lacking(entry)) for entry in self.entries())
        perfect, name = self.perfect_model, self.recorded.metric
        notes = [f"perfect model: {self.reference.why_unknown if perfect is None else f'{name} {perfect}'}"]
        if self.by_class:
            notes.append(
                f"by class: {self.n // len(self.spec.classes):,} images each, against the real images of the class "
                f"among {len(self._real_labels):,}; the fewer images, the larger the distance, of a perfect model too"
            )
        if lacking:
            checkpoints = counted(lacking, "checkpoint")
            notes.append(f"newer metrics are unknown for {checkpoints}, whose features were not kept")
        return notes

    def _kept(self, subject: Subject) -> Path:
        """The file of a subject's features."""
        return self.place / FEATURES / f"{self.mark(subject)}.safetensors"

    def _lacking(self, entry: Entry) -> tuple[Metric, ...]:
        """The metrics whose current numbers an entry lacks, since it is older or from other packages."""
        return tuple(one for one in self.metrics if not one.is_in(entry.values))

    def _sets(self, subject: Subject, tensors: Mapping[str, Tensor]) -> FeatureSets:
        return FeatureSets(
            features=tensors["features"],
            logits=tensors.get("logits"),
            classes=in_turn(self.spec.classes, torch.arange(self.n)) if self.spec.classes else None,
            mean=self.reference.mean,
            covariance=self.reference.covariance,
            sample=self.reference.sample,
            seed=subject.seed or 0,
        )


@attrs.frozen(eq=False, kw_only=True)
class Trials(Distance):
    """The Fréchet distance of samplers on one checkpoint, with their broken images and their cost."""

    tag: ClassVar = "compare"

    limit: float
    """The roughness of the roughest real image; rougher images are broken."""

    @property
    def quantities(self) -> list[Quantity]:
        plain = attrs.evolve(FRECHET_DISTANCE, metric="", plus_minus="standard deviation over seeds")
        return [
            self._named(plain),
            Quantity("broken", is_share=True),
            Quantity("evaluations", decimals=0),
            Quantity("seconds", "s/image"),
        ]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "roughest": self.limit}

    def words(self) -> dict[str, str]:
        return {
            "": f"{counted(self.n, 'image')} per seed",
            "features": self.features.name,
            "reference": self.reference.name,
            "broken": "rougher than any real image",
        }

    def name(self, subject: Subject) -> str:
        return f"seed {subject.seed}: {subject.sampler_in_words}"

    def tensors(self, pixels: Tensor, each: Tensor) -> dict[str, Tensor]:
        broken = (roughness(pixels) > self.limit).float()
        return {"features": self.features(pixels).features, "each": torch.cat([each, broken[:, None]], dim=1)}

    def measured(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
        distance = frechet_distance_of_images(whole["features"], self.reference.mean, self.reference.covariance)
        return {"score": distance, **means(whole["each"])}

    def failed(self, subject: Subject, error: DivergedError) -> Row:
        """The row of a sampler that diverged: no distance, and all images broken.

        The evaluations of an adaptive solver are None, since only a finished sampling shows them.
        """
        return {"score": None, "broken": 1.0, "evaluations": self.evaluations(subject), "seconds": None}


def means(each: Tensor) -> Row:
    """The means of the values per image; evaluations as an int if they are whole, as the mean of equal counts is."""
    found = dict(zip(_PER_IMAGE, each.double().mean(dim=0).tolist(), strict=False))
    count = found["evaluations"]
    return {**found, "evaluations": int(count) if count.is_integer() else count}


def save_features(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors, each (n, …) float32, unless they are too large or can't be written, which affects no score."""
    if sum(tensor.nbytes for tensor in tensors.values()) > MOST_FEATURES_BYTES:
        return
    with contextlib.suppress(NcsnxError):
        atomic.make_folder(path.parent)
        atomic.write_bytes(path, safetensors.torch.save({key: one.contiguous() for key, one in tensors.items()}))


def load_features(path: Path) -> dict[str, Tensor] | None:
    """The tensors in a file; None if it is missing or damaged."""
    try:
        return safetensors.torch.load(path.read_bytes())  # not mapped: the file may be removed meanwhile
    except (OSError, SafetensorError):
        return None


def make_room(run: Run, most_bytes: int = MOST_FEATURES_BYTES) -> None:
    """Removes the oldest kept features of the run until the others have at most `most_bytes`."""
    files = [*run.fid.glob(f"*/{FEATURES}/step-*.safetensors")]
    total = 0
    with contextlib.suppress(OSError):  # another process removes some too
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            total += path.stat().st_size
            if total > most_bytes:
                path.unlink()


_ROUGHNESS_BATCH = 256


@document("the roughness of real images", sealed=True)
@attrs.frozen(kw_only=True)
class Roughest:
    """The cached result of `roughest`."""

    roughest: float
    """Roughness of the roughest real image."""


def roughness(images: Tensor) -> Tensor:
    """Mean squared difference of neighboring pixels, down plus across: (B, C, H, W) uint8 → (B,) float32.

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
    place = cache_path("roughness", real.facts, cache)
    return cached(place, Roughest, find, f"a look at {real.title}", work).roughest
