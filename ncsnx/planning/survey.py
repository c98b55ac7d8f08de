"""Plan for an experiment: σ_1 from its data if available, noise levels and sampler, and the cost on this machine."""

import math
import statistics
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.data_sets import Data, Images, NumericData
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import size_of_sides
from ncsnx.config.variants import tag_of
from ncsnx.data import DataMissingError, Dataset, open_data
from ncsnx.data.dataset import Magnitudes
from ncsnx.data.magnitudes import measured_data
from ncsnx.data.readers.own_images import PictureFiles, unread_by
from ncsnx.errors import UsageError, require_between
from ncsnx.noise.level_plan import NoisePlan, plan_noise
from ncsnx.noise.techniques import MOST_OVERLAP, OVERLAP
from ncsnx.planning.budget import Fit
from ncsnx.planning.cost import Cost, cost_of
from ncsnx.planning.differing import PlanDifference
from ncsnx.planning.distances import Distances, measure_distances
from ncsnx.planning.experiment_proposal import SMALL_SET
from ncsnx.planning.timing import LEAST_BF16_SPEEDUP, Timing
from ncsnx.spelling import parameter
from ncsnx.work import Work

OUTLIER = 1.25
"""σ_1 above this multiple of the 99.9 % quantile is probably caused by one outlier."""


@attrs.frozen(kw_only=True)
class MeasuredData:
    """Measurements of a data set."""

    distances: Distances
    names: tuple[str, str]
    """Names of the two training images that are farthest apart."""
    held_out: int
    """Number of held-out images."""
    unread: str = ""
    """Files, pages and frames in a folder or zip that aren't read."""
    magnitudes: Magnitudes | None = None
    """Magnitudes of the training images; None as in `Splits`."""


@attrs.frozen(kw_only=True)
class Choices:
    """Options of a plan. Raises UsageError for an invalid overlap or seed."""

    overlap: float = OVERLAP
    """Overlap of neighbouring levels (technique 2)."""
    steps_per_level: int | None = None
    """T; by default as published for a similar number of levels."""
    exact: bool | None = None
    """Whether all pairs of images are measured: see `measure_distances`."""
    seed: int = 0
    """Seed of the sample of images and of their dequantization."""

    def __attrs_post_init__(self) -> None:
        if not 0 < self.overlap < MOST_OVERLAP:
            raise UsageError(
                f"{parameter('overlap')} must be above 0 and below {MOST_OVERLAP:.4f}, not {self.overlap:g}"
            )
        require_between("seed", self.seed, 0, 2**32 - 1)


@attrs.frozen(kw_only=True)
class Survey:
    """A plan and its sources."""

    experiment: Experiment
    plan: NoisePlan
    source: str
    """Source of σ_1, in words."""
    measured: MeasuredData | None
    """None if the data isn't available."""
    differences: tuple[PlanDifference, ...] = ()
    timing: Timing | None = None
    bf16_speedups: tuple[float, ...] = ()
    """Time of a training step in fp32 relative to bf16 here, in each round; empty if it wasn't measured."""
    fit: Fit | None = None
    """How the experiment was reduced to a budget, if it was."""

    @property
    def seconds_per_image(self) -> float | None:
        """Seconds per image with the published sampler, as planned; None without a timing."""
        return None if self.timing is None else self.timing.seconds_per_evaluation * self.plan.evaluations

    @property
    def bf16_speedup(self) -> float | None:
        """Median of the rounds; None if it wasn't measured."""
        return statistics.median(self.bf16_speedups) if self.bf16_speedups else None

    @property
    def bf16_proposal(self) -> str | None:
        """How much faster bf16 is here, in words; None where it isn't in every round, or wasn't measured."""
        if self.bf16_speedup is None or min(self.bf16_speedups) < LEAST_BF16_SPEEDUP:
            return None
        return f"a training step is about {self.bf16_speedup:.1f}× as fast in bf16"

    @property
    def cost(self) -> Cost | None:
        """Cost of the experiment's training; None without a timing."""
        if self.timing is None:
            return None
        held_out = self.experiment.batch_size if self.measured is None else self.measured.held_out
        return cost_of(self.experiment, self.timing, held_out)

    def facts(self) -> dict[str, Any]:
        """The survey as JSON values."""
        data, plan, timing = self.experiment.data, self.plan, self.timing
        distances = self.measured.distances if self.measured else None
        per_image, cost = self.seconds_per_image, self.cost
        return {
            "experiment": self.experiment.name,
            "data": tag_of(type(data)),
            "image_size": size_of_sides(data.shape[1:]),
            "channels": data.channels,
            "dimensions": plan.dimensions,
            "images": distances.images if distances else None,
            "levels": plan.levels,
            "sigma_max": plan.sigma_max,
            "sigma_max_source": self.source,
            "sigma_max_exact": distances.exact if distances else None,
            "sigma_max_bound": distances.bound if distances else None,
            "largest_pair": list(self.measured.names) if self.measured else None,
            "quantile_999": distances.quantile if distances else None,
            "quantile_999_interval": list(distances.quantile_interval) if distances else None,
            "sigma_min": plan.sigma_min,
            "ratio": plan.ratio,
            "overlap": plan.overlap,
            "step_size": plan.step_size,
            "steps_per_level": plan.steps_per_level,
            "evaluations": plan.evaluations,
            "snr": plan.snr,
            "remaining_variance": plan.remaining_variance,
            "seconds_per_evaluation": timing.seconds_per_evaluation if timing else None,
            "seconds_per_image": per_image,
            "seconds_per_1000_images": 1000 * per_image if per_image is not None else None,
            "seconds_per_step": timing.seconds_per_step if timing else None,
            "seconds_of_training": cost.total if cost else None,
            "seconds_of_steps": cost.steps if cost else None,
            "seconds_of_snapshots": cost.snapshots if cost else None,
            "seconds_of_checkpoints": cost.checkpoints if cost else None,
            "seconds_of_held_out_losses": cost.held_out if cost else None,
            "timed": timing.timed if timing else None,
            "bf16_speedup": self.bf16_speedup,
            "differences": [attrs.asdict(difference) for difference in self.differences],
        }


def measure_data(data: Data, folder: Path, *, seed: int, exact: bool | None, work: Work) -> MeasuredData:
    """Measures a data set. Raises DataMissingError if it isn't available."""
    splits = open_data(data, folder, work)
    distances = measure_distances(splits.train, data, seed=seed, exact=exact, work=work)
    first, second = (image_name(splits.train, number) for number in distances.pair)
    unread = unread_by(data, folder, work) if isinstance(data, Images) else ""
    return MeasuredData(
        distances=distances,
        names=(first, second),
        held_out=len(splits.held_out),
        unread=unread,
        magnitudes=splits.magnitudes,
    )


def survey(experiment: Experiment, folder: Path, choices: Choices, work: Work) -> Survey:
    """The plan for an experiment's data. If the data isn't available, warns and uses the experiment's own σ_1.

    folder: the data folder. Raises NcsnxError for data that can't be read, and if no noise levels suit it.
    """
    sigma_max, source, measured = experiment.schedule.sigma_max, "the experiment (its data is not here)", None
    try:
        measured = measure_data(experiment.data, folder, seed=choices.seed, exact=choices.exact, work=work)
        sigma_max, source = measured.distances.largest, measured.distances.source
        if isinstance(experiment.data, NumericData):
            scaled = measured_data(experiment.data, measured.magnitudes)
            experiment = attrs.evolve(experiment, data=attrs.evolve(experiment.data, scale=scaled.scale))
    except DataMissingError as error:
        lines = [f"{error.message}, so σ_1 = {sigma_max:g} is the experiment's own", *map(str, error.hints)]
        work.warning("\n".join(lines))
    dimensions = math.prod(experiment.data.shape)
    plan = plan_noise(
        dimensions,
        sigma_max,
        sigma_min=experiment.schedule.sigma_min,
        overlap=choices.overlap,
        steps_per_level=choices.steps_per_level,
    )
    return Survey(experiment=experiment, plan=plan, source=source, measured=measured)


def image_name(dataset: Dataset, number: int) -> str:
    """Name of an image: its file's name, else its index in the whole data set."""
    if isinstance(dataset, PictureFiles):
        return dataset.names[dataset.ids.tolist().index(number)]
    return f"image {number}"


def data_remarks(measured: MeasuredData) -> list[str]:
    """Warnings about the data, with advice, to be read before training."""
    distances, (first, second) = measured.distances, measured.names
    found = []
    if distances.largest > OUTLIER * distances.quantile:
        found.append(
            f"σ_1 = {distances.largest:.4g} is far above the distances of 99.9 % of the pairs, "
            f"{distances.quantile:.4g}, probably because of one outlier\n"
            f"look at {first} and {second}, and remove one that does not belong to the data\n"
            f"or train with:  schedule.sigma_max={distances.quantile:.3g}"
        )
    if distances.images < SMALL_SET:
        found.append(
            f"a network may memorise so few training images ({distances.images:,})\n"
            "watch the held-out loss, and use a checkpoint from before it rises:  ncsnx loss RUN\n"
            "compare samples with their nearest training images:                  ncsnx neighbors RUN\n"
            "train fewer steps:                                                   steps=N\n"
            "flip images, if mirror images are plausible:                         data.random_flip=true\n"
            "crop images at random from larger ones:                              data.random_crop=SIDE"
        )
    return found
