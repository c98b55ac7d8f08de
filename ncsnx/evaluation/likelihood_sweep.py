"""Likelihood of the same held-out images under each checkpoint of a run.

For the likelihood of an image see `ncsnx.evaluation.probability_flow`.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from ncsnx.config.codec import identity
from ncsnx.config.model import RefineNetModel
from ncsnx.data import Preprocessing
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.checkpoint_sweep import Candidate, CheckpointSweep
from ncsnx.evaluation.probability_flow import (
    COLUMNS,
    FORM,
    MEANING,
    METRIC,
    ProbabilityFlow,
    Probes,
    bits_per_dimension,
    probe,
)
from ncsnx.features.real_images import DataSource
from ncsnx.metrics.metric import Quantity
from ncsnx.networks import Network, prepare
from ncsnx.noise.levels import sigmas
from ncsnx.quantities import counted
from ncsnx.randomness import Purpose, Stream
from ncsnx.runs.score_files import Row
from ncsnx.samplers.dormand_prince import METHOD
from ncsnx.sampling.score_model import weights_in_words
from ncsnx.spelling import parameter
from ncsnx.storage.parts import Part
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
class LikelihoodSweep(CheckpointSweep):
    """Measures the likelihood of the same images under checkpoints of one run. Raises NcsnxError if it has none."""

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
        model = self.experiment.model
        if not model.any_sigma:
            raise NcsnxError(
                f"{type(model).__name__} accepts its trained levels only, and a likelihood needs every σ between them; "
                "use a model that takes any σ, such as ncsnv2 or unet"
            )
        held_out = len(self.source.splits().held_out)
        if held_out < 2:
            raise NcsnxError(f"a likelihood needs at least 2 held-out images, and the data set has {held_out}")
        if not 2 <= self.count <= held_out:
            raise UsageError(
                f"{parameter('n')} {self.count:,}: expected 2 to the number of held-out images, which is {held_out:,}"
            )
        if self.estimator == "exact" and self.vectors is not None:
            raise UsageError(f"{parameter('estimator')} exact takes no {parameter('probes')}; leave it out")
        if not 1e-6 <= self.tolerance <= 0.1:
            raise UsageError(f"{parameter('tolerance')} must be between 1e-6 and 0.1, not {self.tolerance:g}")
        if self.estimator == "exact" and self.dimensions > _MOST_EXACT:
            raise UsageError(
                f"{parameter('estimator')} exact is for images of at most {counted(_MOST_EXACT, 'dimension')}, not "
                f"{self.dimensions:,}; take hutchinson, with more {parameter('probes')} for a smaller error"
            )
        _ = self.grey_levels  # raises for data without any

    @property
    def count(self) -> int:
        return min(IMAGES, len(self.source.splits().held_out)) if self.n is None else self.n

    @property
    def dimensions(self) -> int:
        """Dimensions of an image, C·H·W."""
        return math.prod(self.experiment.data.shape)

    @property
    def probes(self) -> int:
        """Backward passes per evaluation."""
        return self.dimensions if self.estimator == "exact" else self.vectors or 1

    @property
    def grey_levels(self) -> int:
        """Number of grey levels of a channel. Raises NcsnxError for data without grey levels."""
        pixels = self.source.splits().held_out.read(torch.tensor([0])).pixels
        return self._preprocessing().grey_levels(pixels)

    @property
    def quantities(self) -> list[Quantity]:
        bits = [Quantity(key, decimals=3) for key in ("prior", "flow", "scale")]
        return [Quantity("score", METRIC, error="error"), *bits, Quantity("evaluations", decimals=0)]

    @property
    def kept_in(self) -> tuple[Path, str]:
        return self.run.likelihood, f"n{self.count}-{self.estimator}{self.probes}-seed{self.seed}"

    @property
    def ends(self) -> tuple[float, float]:
        """σ_min and σ_max: the lowest and the highest trained level."""
        levels = sigmas(self.experiment.schedule)
        return levels[-1], levels[0]

    def protocol(self) -> dict[str, Any]:
        sigma_min, sigma_max = self.ends
        return {
            "measure": "likelihood",
            "version": _VERSION,
            "identity": identity(self.experiment),
            "n": self.count,
            "seed": self.seed,
            "estimator": self.estimator,
            "probes": self.probes,
            "solver": METHOD,
            "tolerance": self.tolerance,
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
            "grey_levels": self.grey_levels,
            "dequantization": "uniform",
            "weights": self.weights,
            "precision": "fp32",
            "split": "held-out",
            "fingerprint": self.source.fingerprint,
        }

    def caption(self) -> str:
        sigma_min, sigma_max = self.ends
        probes = f"Hutchinson's estimator, {counted(self.probes, 'probe')}"
        divergence = "exact divergence" if self.estimator == "exact" else probes
        return (
            f"probability-flow ODE from σ = {sigma_min:g} to {sigma_max:g}, where the prior is "
            f"N({self.source.space.center:g}, {sigma_max:g}²), {METHOD} with tolerance {self.tolerance:g}, "
            f"{divergence}: {counted(self.count, 'held-out image')} of "
            f"{counted(self.grey_levels, 'grey level')}, dequantized uniformly, seed {self.seed}, "
            f"{weights_in_words(self.weights)}; data {self.source.fingerprint[:8]}"
        )

    def remarks(self) -> list[str]:
        form = f". {FORM}" if isinstance(self.experiment.model, RefineNetModel) else ""
        return [
            f"uniform grey levels would take {math.log2(self.grey_levels):.2f}. The error is the standard error of the "
            "mean over images, including the noise of the probes",
            f"what it means: {MEANING}{form}",
        ]

    # ----------------------------------------------------------------------------------------------- a checkpoint

    def units(self, subject: Candidate) -> int:
        return _UNITS * self.count

    def parts(self, subject: Candidate, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        """Yields the values of images, integrated to the prior. Raises DivergedError if the solver fails."""
        network, places = self._network(subject), self._places()
        for start in range(0, len(indices), self.batch_size):
            batch = torch.tensor(indices[start : start + self.batch_size])
            watch = _progress(_UNITS * len(batch), self.ends, work, advance)
            pixels = self.source.splits().held_out.read(places[batch]).pixels
            flow = ProbabilityFlow(network.scaled_score, *self.ends, tolerance=self.tolerance, watch=watch)
            values = bits_per_dimension(flow, pixels, places[batch], self._preprocessing(), self._probes(places[batch]))
            yield Part(batch, {"values": values.float()})
            watch(flow.sigma_max)

    def measured(self, subject: Candidate, whole: Mapping[str, Tensor]) -> Row:
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
        shape, places = self.experiment.data.shape, places.to(self.runtime.device)
        if self.estimator == "exact":
            basis = torch.eye(self.dimensions, device=places.device).view(-1, 1, *shape)
            return Probes(basis.expand(-1, len(places), *shape), weight=1.0)
        stream = Stream(self.seed, Purpose.PROBES)
        vectors = [probe(stream, places, shape, number) for number in range(self.probes)]
        return Probes(torch.stack(vectors), weight=1 / self.probes)

    def _network(self, candidate: Candidate) -> Network:
        """The network in fp32 whatever its precision: the solver needs differences that bf16 would round away."""
        (model,) = self.load(candidate)
        return prepare(model.network, attrs.evolve(self.runtime.execution(self.experiment), precision="fp32"))

    def _places(self) -> Tensor:
        """Indices (n,) int64 of the images in the held-out split."""
        held_out = len(self.source.splits().held_out)
        return Stream(self.seed, Purpose.SUBSETS).permutation(held_out, 0)[: self.count]

    def _preprocessing(self) -> Preprocessing:
        held_out = self.source.splits().held_out
        return Preprocessing(self.experiment.data, self.source.space, held_out.value_range, self.seed)


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
