"""Plan for an experiment: σ_1 from its data if available, noise levels and sampler, and the cost on this machine.

σ_1 is the largest distance of training images: technique 1 of Song & Ermon 2020 (arXiv 2006.09011, section 3.1).
Distances are Euclidean, between images as the network sees them: dequantized (one draw each) and transformed, but not
flipped. All pairs of up to SAMPLED_IMAGES are measured; of a larger set, those of a seeded sample, whose largest
distance is a lower bound.
"""

import math
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ncsnx.config.data_sets import Data, NumericData, cuts_patches
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import size_of_sides
from ncsnx.config.overrides import as_words
from ncsnx.config.variants import tag_of
from ncsnx.data import DataMissingError, open_data
from ncsnx.data.dataset import Dataset
from ncsnx.data.readers.own_images import unread_in_words
from ncsnx.data.transforms import Preprocessing
from ncsnx.data.value_statistics import values_space
from ncsnx.errors import Hint, NcsnxError, printable
from ncsnx.planning.budget import Fit, span_of_time
from ncsnx.planning.experiment_proposal import SMALL_SET, published_sampler, rounded_up
from ncsnx.planning.timing import Timing, training_seconds
from ncsnx.quantities import counted, product
from ncsnx.randomness import Purpose, Stream
from ncsnx.samplers.building import expected_evaluations
from ncsnx.sampling.bias import bias_of
from ncsnx.schedules.techniques import NoisePlan, plan_noise
from ncsnx.space import Space
from ncsnx.work import Work

SAMPLED_IMAGES = 8_000
"""Most images of which all pairs are measured: one to two minutes at 128 px on two cores."""
SAMPLED_VALUES = 2**29
"""Most values of these images, which are held in memory: 2 GiB."""
TAIL = 0.001
"""Share of pairs beyond the quantile that is reported beside the maximum, which a single outlier can set."""
_VALUES_AT_ONCE = 2**20
"""Values that are read and dequantized at once; the generator needs about a hundred bytes for each."""
_BLOCK_IMAGES = 512


@attrs.frozen(kw_only=True)
class Distances:
    """Euclidean distances between the training images, in the network's range."""

    largest: float
    """Largest distance found: the maximum if all images were compared, otherwise a lower bound."""
    names: tuple[str, str]
    """Names of the two images."""
    images: int
    """Number of training images."""
    compared: int
    """Number of images of which all pairs were measured."""
    quantile: float
    """99.9 % quantile of the measured distances."""
    dequantized: bool = False
    """Whether images were dequantized, with one draw each."""
    is_clean: bool = True
    """Whether the images have no noise of their own, whose share of each distance is left out."""
    seed: int
    """Seed of the sample and of the dequantization."""

    @property
    def is_exact(self) -> bool:
        """Whether all pairs were measured."""
        return self.compared == self.images

    @property
    def source(self) -> str:
        """How `largest` was found, in words."""
        images = counted(self.images, "dequantized image" if self.dequantized else "image")
        seed = f", seed {self.seed}" if self.dequantized or not self.is_exact else ""
        seed += "" if self.is_clean else ", without their noise"
        if self.is_exact:
            return f"largest of {images}{seed}"
        return f"estimate (lower bound) from {images}: all pairs of {self.compared:,}{seed}"


def measure_distances(dataset: Dataset, data: Data, space: Space, *, seed: int, work: Work) -> Distances:
    """The distances between the images of a training split.

    seed: seed of the sample and of the dequantization. Raises NcsnxError for fewer than two images, and if all are
    equal.
    """
    images = len(dataset)
    if images < 2:
        raise NcsnxError(f"distances need at least two training images, but there is {'one' if images else 'none'}")
    most = max(2, min(SAMPLED_IMAGES, SAMPLED_VALUES // math.prod(data.shape)))
    compared = torch.arange(images)
    if images > most:
        compared = Stream(seed, Purpose.PAIRS).choice(images, most, epoch=0).sort().values
    points = _points(dataset, data, space, compared, seed, work)
    if points is None:
        raise NcsnxError(f"all {counted(len(compared), 'compared image')} are equal, so there are no distances")
    first, second, quantile = _all_pairs(points, work)
    largest = float(torch.linalg.vector_norm(points[first].double() - points[second].double()))
    # two images differ by noise too: of the squared distance, 2 D σ_n² on average
    by_noise = 2 * points.shape[1] * space.noise**2
    if not largest**2 > by_noise:
        raise NcsnxError(
            f"noise of {data.noise_as_typed} alone explains all distances between images",
            Hint("give less, or leave it out for clean images", adds="data.noise=0 data.gain=0"),
        )
    largest, quantile = (math.sqrt(max(0.0, distance**2 - by_noise)) for distance in (largest, quantile))
    one, other = (dataset.image_name(number) for number in dataset.read(compared[[first, second]]).ids.tolist())
    return Distances(
        largest=largest,
        names=(one, other),
        images=images,
        compared=len(compared),
        quantile=quantile,
        dequantized=data.dequantization != "none",
        is_clean=space.noise == 0,
        seed=seed,
    )


def _points(dataset: Dataset, data: Data, space: Space, indices: Tensor, seed: int, work: Work) -> Tensor | None:
    """(n, D) float32: the network's input for the images at `indices`; None if all are equal as stored."""
    preprocessing = Preprocessing(data, space, dataset.value_range, seed)
    points = torch.empty(len(indices), math.prod(data.shape))
    some, done = max(1, _VALUES_AT_ONCE // points.shape[1]), 0
    first, are_equal = dataset.read(indices[:1]).pixels, True
    with work.progress("reading images", total=len(indices), unit="images") as advance:
        for part in indices.split(some):  # type: ignore[no-untyped-call]
            work.check_stop()
            pixels = dataset.read(part).pixels
            are_equal = are_equal and bool((pixels == first).all())
            points[done : done + len(part)] = preprocessing.measured(pixels, part).flatten(1)
            done += len(part)
            advance(len(part))
    return None if are_equal else points


def _all_pairs(points: Tensor, work: Work) -> tuple[int, int, float]:
    """The pair with the largest distance, and the quantile of all distances exceeded by a share TAIL of them."""
    count, largest, pair, blocks = len(points), -1.0, (0, 1), list[Tensor]()
    centered = points - points[:_BLOCK_IMAGES].mean(dim=0)  # fewer rounding errors at low contrast
    with work.progress("measuring distances", total=count * (count - 1) // 2, unit="pairs") as advance:
        for start in range(0, count - 1, _BLOCK_IMAGES):
            work.check_stop()
            rows = centered[start : start + _BLOCK_IMAGES]
            distances = torch.cdist(rows, centered[start:])
            once = torch.ones_like(distances, dtype=torch.bool).triu_(1)  # each pair once, and no image with itself
            distances.masked_fill_(~once, -1.0)
            place = int(distances.argmax())
            if float(distances.max()) > largest:
                largest, width = float(distances.max()), distances.shape[1]
                pair = start + place // width, start + place % width
            blocks.append(distances[once])
            advance(len(blocks[-1]))
    every = torch.cat(blocks)
    return *pair, float(every.kthvalue(math.ceil((1 - TAIL) * len(every))).values)


OUTLIER = 1.25
"""σ_1 above this multiple of the 99.9 % quantile is probably caused by one outlier."""


@attrs.frozen(kw_only=True)
class Survey:
    """A plan and its sources."""

    experiment: Experiment
    plan: NoisePlan
    distances: Distances | None
    """None if the data isn't available."""
    held_out: int = 0
    """Number of held-out images."""
    classes: int = 0
    """Number of classes of the data; 0 without labels."""
    unread: str = ""
    """Files in a folder or zip that aren't read, in words."""
    timing: Timing | None = None
    about_noise: str = ""
    """Where the noise of the images comes from, in words; '' for clean ones."""
    fit: Fit | None = None
    """How the experiment was reduced to a budget, if it was."""

    @property
    def source(self) -> str:
        """Source of σ_1, in words."""
        return self.distances.source if self.distances else "the experiment's own (its data is not here)"

    @property
    def seconds_of_training(self) -> float | None:
        """Seconds of the experiment's training; None without a timing."""
        return None if self.timing is None else training_seconds(self.experiment, self.timing)

    def lines(self) -> list[str]:
        """The survey in words: data, noise levels, published sampler, training and times."""
        experiment, plan, distances = self.experiment, self.plan, self.distances
        lines, sigma_max = list[str](), f"σ_1 = {plan.sigma_max:g}: {self.source}"
        if distances is not None:
            images = counted(distances.images, "training image")
            lines.append(f"{images} of {product(experiment.data.shape)}, {self.held_out:,} held out")
            pair = " and ".join(map(printable, distances.names))
            sigma_max += f", between {pair}; 99.9 % of the pairs are within {distances.quantile:.4g}"
        evaluations, width = counted(plan.evaluations, "evaluation"), getattr(experiment.model, "width", None)
        network = "" if width is None else f", width {width}"
        lines += [
            sigma_max,
            f"{counted(plan.levels, 'geometric level')} to σ_L = {plan.sigma_min:g}, which overlap by {plan.overlap:g}",
            f"published sampler, {evaluations} per image: {as_words(published_sampler(plan))}",
            f"training: {counted(experiment.steps, 'step')} of {counted(experiment.batch_size, 'image')}{network}",
            *([] if self.timing is None else self._times(self.timing)),
        ]
        if experiment.model.classes:
            lines.append(f"conditional on {counted(experiment.model.classes, 'class')}; without: model.classes=0")
        bias = bias_of(experiment)
        return lines if bias is None else [*lines, bias]

    def _times(self, timing: Timing) -> list[str]:
        training = span_of_time(training_seconds(self.experiment, timing))
        evaluations = expected_evaluations(self.experiment.sampler, self.experiment.schedule.levels)
        own, published = (
            span_of_time(count * timing.seconds_per_evaluation) for count in (evaluations, self.plan.evaluations)
        )
        return [
            f"training takes about {training}, estimated from a quick timing: {timing.timed}",
            f"an image takes about {own} with the experiment's sampler of {counted(evaluations, 'evaluation')}, and "
            f"{published} with the published one",
        ]

    def facts(self) -> dict[str, Any]:
        """The survey as JSON values."""
        data, plan, timing, distances = self.experiment.data, self.plan, self.timing, self.distances
        return {
            "experiment": self.experiment.name,
            "data": tag_of(type(data)),
            "image_size": size_of_sides(data.shape[1:]),
            "channels": data.channels,
            "dimensions": plan.dimensions,
            "images": distances.images if distances else None,
            "sigma_max_source": self.source,
            "sigma_max_exact": distances.is_exact if distances else None,
            "largest_pair": list(distances.names) if distances else None,
            "quantile_999": distances.quantile if distances else None,
            **attrs.asdict(plan),
            "evaluations": plan.evaluations,
            "remaining_variance": plan.remaining_variance,
            "seconds_per_evaluation": timing.seconds_per_evaluation if timing else None,
            "seconds_per_image": timing.seconds_per_evaluation * plan.evaluations if timing else None,
            "seconds_per_step": timing.step_of(self.experiment.batch_size) if timing else None,
            "seconds_of_training": self.seconds_of_training,
            "timed": timing.timed if timing else None,
        }


def survey(
    experiment: Experiment,
    folder: Path,
    work: Work,
    *,
    overlap: float,
    steps_per_level: int | None,
    seed: int,
) -> Survey:
    """The plan for an experiment's data, with warnings about the data. Without the data, σ_1 is the experiment's own.

    A measured σ_1 is rounded up to four digits, since no distance may exceed it. folder: the data folder. overlap: C of
    neighboring levels (technique 2). steps_per_level: T; None for as many as published for a similar number of levels.
    seed: of the sample of images and of their dequantization. Raises NcsnxError for data that can't be read, and if no
    noise levels suit it.
    """
    data, sigma_max = experiment.data, experiment.schedule.sigma_max
    distances, held_out, classes, unread = None, 0, 0, ""
    sigma_min = experiment.schedule.sigma_min
    try:
        splits = open_data(data, folder, work)
        space = values_space(data, splits, str(tag_of(type(data))), work)
        distances = measure_distances(splits.train, data, space, seed=seed, work=work)
        sigma_max, held_out = rounded_up(distances.largest, 4), len(splits.held_out)
        sigma_min = max(sigma_min, float(f"{space.noise:.6g}"))
        classes = len(splits.class_names)
        unread = "" if splits.train.image_files is None else unread_in_words(splits.train.image_files)
        if isinstance(data, NumericData):
            data = attrs.evolve(data, scale=None if data.is_bounded else space.span)
            experiment = attrs.evolve(experiment, data=data)
        for remark in data_remarks(distances, held_out, cuts_patches(data)):
            work.warning(remark)
    except DataMissingError as error:
        lines = [f"{error.message}, so σ_1 = {sigma_max:g} is the experiment's own", *map(str, error.hints)]
        work.warning("\n".join(lines))
    plan = plan_noise(
        math.prod(data.shape),
        sigma_max,
        sigma_min=sigma_min,
        overlap=overlap,
        steps_per_level=steps_per_level,
    )
    return Survey(
        experiment=experiment, plan=plan, distances=distances, held_out=held_out, classes=classes, unread=unread
    )


def data_remarks(distances: Distances, held_out: int, of_patches: bool = False) -> list[str]:
    """Warnings about the data, with advice, to be read before training.

    held_out: number of held-out images. of_patches: they are cropped at random.
    """
    remarks, (first, second) = list[str](), distances.names
    if distances.largest > OUTLIER * distances.quantile:
        remarks.append(
            f"σ_1 = {distances.largest:.4g} is far above the distances of 99.9 % of the pairs, "
            f"{distances.quantile:.4g}, probably because of one outlier\n"
            f"look at {first} and {second}, and remove one that does not belong to the data\n"
            f"or train with:  schedule.sigma_max={distances.quantile:.3g}"
        )
    if distances.images < SMALL_SET:
        lines = [
            f"a network may memorize so few training images ({distances.images:,})",
            "watch the held-out loss, and use a checkpoint from before it rises:  ncsnx loss RUN"
            if held_out
            else "no image is held out, so no held-out loss will show it: add pictures",
            "compare samples with their nearest training images:                  ncsnx neighbors RUN",
            "train fewer steps:                                                   steps=N",
            "flip images, if mirror images are plausible:                         data.random_flip=true",
            "crop images at random from larger ones:                              data.random_crop=SIDE",
        ]
        remarks.append("\n".join(lines[:-1] if of_patches else lines))
    return remarks
