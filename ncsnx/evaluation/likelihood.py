"""Likelihood of the same held-out images under each checkpoint of a run.

For the likelihood of an image see `ncsnx.sampling.probability_flow`.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs
import torch
from torch import Tensor

from ncsnx.config.model import RefineNetModel
from ncsnx.data import Preprocessing
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.measure import Measure
from ncsnx.features.real_images import DataSource
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.sharing import batches_of
from ncsnx.runs.ledger import Quantity, Row, Subject
from ncsnx.samplers.dormand_prince import METHOD
from ncsnx.sampling.probability_flow import (
    COLUMNS,
    FORM,
    MEANING,
    METRIC,
    ProbabilityFlow,
    Probes,
    bits_per_dimension,
    require_flow,
)
from ncsnx.spelling import parameter
from ncsnx.storage.batch_files import Tensors
from ncsnx.work import Advance, Work

Estimator = Literal["hutchinson", "exact"]
"""Estimator of the divergence: random signs, or every direction in turn."""
_VERSION = 2
"""Version of the measured numbers; raised when any of them changes, so that rows of different versions stay apart."""
IMAGES = 100
"""Default number of images, unless fewer are held out."""

_MOST_EXACT = 4_096
"""Most dimensions for the exact divergence, which takes a backward pass per dimension."""
_UNITS = 100  # of progress, per image


@attrs.frozen(eq=False, kw_only=True)
class Likelihood(Measure):
    """The likelihood of the same images under checkpoints. Raises NcsnxError if a model has none."""

    tag: ClassVar = "likelihood"

    source: DataSource
    n: int | None = None
    """Number of held-out images, chosen by the seed; a larger n adds images to those of a smaller one. None for 100, or
    all if there are fewer."""
    seed: int = 0
    """Seed of the choice of images, their dequantization and the probes."""
    estimator: Estimator = "hutchinson"
    vectors: int | None = None
    """Random vectors per image, the same at every σ. None for one, or for every direction with 'exact'."""
    tolerance: float = 1e-4
    """Tolerance of the solver, see `ProbabilityFlow`."""
    batch_size: int = 64
    """Images per batch, which share the solver's steps; changes results within the tolerance."""

    def __attrs_post_init__(self) -> None:
        name = type(self.spec.model).__name__
        precision = "fp32" if self.given is None else self.given.precision  # of a run the runtime's
        require_flow(
            name, precision, self.tolerance, any_sigma=self.spec.any_sigma, learns_scores=self.spec.learns_scores
        )
        held_out = len(self.source.splits().held_out)
        if self.spec.model is not None:
            self.source.splits().require_classes(self.spec.model.classes, self.spec.space.class_names)
        if held_out < 2:
            raise NcsnxError(f"a likelihood needs at least 2 held-out images, and the data set has {held_out}")
        if not 2 <= self.count <= held_out:
            raise UsageError(
                f"{parameter('n')} {self.count:,}: expected 2 to the number of held-out images, which is {held_out:,}"
            )
        if self.estimator == "exact" and self.vectors is not None:
            raise UsageError(f"{parameter('estimator')} exact takes no {parameter('probes')}; leave it out")
        if self.estimator == "exact" and self.dimensions > _MOST_EXACT:
            raise UsageError(
                f"{parameter('estimator')} exact is for images of at most {counted(_MOST_EXACT, 'dimension')}, not "
                f"{self.dimensions:,}; take hutchinson, with more {parameter('probes')} for a smaller error"
            )
        _ = self.gray_levels  # raises for data without any

    @property
    def count(self) -> int:
        return min(IMAGES, len(self.source.splits().held_out)) if self.n is None else self.n

    @property
    def dimensions(self) -> int:
        """Dimensions of an image, C·H·W."""
        return math.prod(self.spec.space.shape)

    @property
    def probes(self) -> int:
        """Backward passes per evaluation."""
        return self.dimensions if self.estimator == "exact" else self.vectors or 1

    @property
    def gray_levels(self) -> int:
        """Number of gray levels of a channel. Raises NcsnxError for data without gray levels."""
        return self._preprocessing().gray_levels(self.source.splits().held_out.read(torch.tensor([0])).pixels)

    @property
    def quantities(self) -> list[Quantity]:
        bits = [Quantity(key, decimals=3) for key in ("prior", "flow", "scale")]
        score = Quantity("score", METRIC, error="error", identifier="bits_per_dimension")
        return [score, *bits, Quantity("evaluations", decimals=0)]

    @property
    def kept_as(self) -> str:
        return f"n{self.count}-{self.estimator}{self.probes}-noise{self.seed}"

    @property
    def ends(self) -> tuple[float, float]:
        """σ_min and σ_max: the lowest and the highest trained level."""
        return self.spec.levels[-1], self.spec.levels[0]

    def facts(self) -> dict[str, Any]:
        sigma_min, sigma_max = self.ends
        classes, noise = 0 if self.spec.model is None else self.spec.model.classes, self.spec.space.noise
        given = {**({"classes": classes} if classes else {}), **({"noise": noise} if noise else {})}
        return {
            "version": _VERSION,
            "n": self.count,
            "noise_seed": self.seed,
            "estimator": self.estimator,
            "probes": self.probes,
            "solver": METHOD,
            "tolerance": self.tolerance,
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
            "gray_levels": self.gray_levels,
            "transform": self.source.data.transform,
            "split": "held-out",
            **given,
            **self.source.facts,
        }

    def words(self) -> dict[str, str]:
        sigma_min, sigma_max = self.ends
        probes = f"Hutchinson's estimator, {counted(self.probes, 'probe')}"
        divergence = "exact divergence" if self.estimator == "exact" else probes
        given = " given their classes" if self.spec.model is not None and self.spec.model.classes else ""
        if noise := self.spec.space.noise:
            given += f" with noise of σ = {noise:.4g}, a density of noisy images,"
        return {
            "": (
                f"probability-flow ODE from σ = {sigma_min:g} to {sigma_max:g}, where the prior is "
                f"N({self.source.space.center:g}, {sigma_max:g}²), {METHOD} with tolerance {self.tolerance:g}, "
                f"{divergence}, {counted(self.count, 'held-out image')}{given} of "
                f"{counted(self.gray_levels, 'gray level')}, dequantized uniformly, seed {self.seed}"
            ),
            "data": self.source.fingerprint[:8],
        }

    def notes(self) -> list[str]:
        form = f". {FORM}" if isinstance(self.spec.model, RefineNetModel) else ""
        return [
            f"uniform gray levels would take {math.log2(self.gray_levels):.2f}. The error includes "
            "the noise of the probes",
            f"what it means: {MEANING}{form}",
        ]

    # ----------------------------------------------------------------------------------------------- a checkpoint

    def units(self, subject: Subject) -> int:
        return _UNITS * self.count

    def parts(self, subject: Subject, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Tensors]:
        """Yields the values of images, integrated to the prior. Raises DivergedError if the solver fails."""
        (model,), places = self.load(subject), self._places()
        for batch in map(torch.tensor, batches_of(indices, self.batch_size)):
            watch = _progress(_UNITS * len(batch), self.ends, work, advance)
            images = self.source.splits().held_out.read(places[batch])
            pixels, device = images.pixels, self.runtime.device
            if model.network.classes:
                cond = model.network.class_cond(images.labels.to(device))
            else:
                cond = model.inputs(self.seed, places[batch].to(device))
            flow = ProbabilityFlow(
                model.network.scaled_score, *self.ends, tolerance=self.tolerance, cond=cond, watch=watch
            )
            values = bits_per_dimension(flow, pixels, places[batch], self._preprocessing(), self._probes(places[batch]))
            yield {"values": values.float()}
            watch(flow.sigma_max)

    def measured(self, subject: Subject, whole: Mapping[str, Tensor], work: Work) -> Row:
        """The means over images.

        'score' is the mean over images, 'error' its standard error; 'prior', 'flow' and 'scale' add up to the score.
        """
        table = whole["values"].double()
        bits = table[:, 0].tolist()
        means = dict(zip(COLUMNS, table.mean(dim=0).tolist(), strict=True))
        return {
            "score": means.pop(COLUMNS[0]),
            "error": statistics.stdev(bits) / math.sqrt(len(bits)),
            **means,
        }

    def _probes(self, places: Tensor) -> Probes:
        """Probes of the held-out images at `places`."""
        count = None if self.estimator == "exact" else self.probes
        return Probes.at(places.to(self.runtime.device), self.spec.space.shape, count, self.seed)

    def _places(self) -> Tensor:
        """Indices (n,) int64 of the images in the held-out split."""
        held_out = len(self.source.splits().held_out)
        return Stream(self.seed, Purpose.SUBSETS).choice(held_out, self.count, 0)

    def _preprocessing(self) -> Preprocessing:
        held_out = self.source.splits().held_out
        return Preprocessing(self.source.data, self.source.space, held_out.value_range, self.seed)


def _progress(units: int, ends: tuple[float, float], work: Work, advance: Advance) -> Callable[[float], None]:
    """Reports how far log σ of a batch has come from σ_min to σ_max; raises after a stop request."""
    sigma_min, sigma_max = ends
    told = 0

    def watch(sigma: float) -> None:
        nonlocal told
        work.check_stop()
        done = int(units * math.log(sigma / sigma_min) / math.log(sigma_max / sigma_min))
        if done > told:
            advance(done - told)
            told = done

    return watch
