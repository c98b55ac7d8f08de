"""A model without its weights: what a run or an exported model says about itself. Reading it needs no torch."""

from typing import Protocol, Self

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import Precision
from ncsnx.config.model import Model
from ncsnx.config.pretrained import Declared
from ncsnx.config.sampler import Sampler
from ncsnx.noise.levels import sigmas
from ncsnx.space import Space
from ncsnx.work import SILENT, Work


@attrs.frozen(kw_only=True)
class ModelSpec:
    """A model as samplers and measurements know it before its weights are read."""

    space: Space
    """The space of the images that the network was trained on."""
    levels: tuple[float, ...]
    """Noise levels, σ_1 first."""
    model: Model | None
    """Configuration of the network; None for a function."""
    sampler: Sampler
    """The model's own sampler, or one chosen for it."""
    data: Data | None
    """The data set of the training; None if unknown."""
    precision: Precision
    """Number format of evaluations, unless another one is chosen."""

    @classmethod
    def of(cls, declared: Declared, space: Space) -> Self:
        """The model that is declared by an experiment, or was trained elsewhere."""
        return cls(
            space=space,
            levels=sigmas(declared.schedule),
            model=declared.model,
            sampler=declared.sampler,
            data=declared.data,
            precision=declared.precision,
        )

    @property
    def any_sigma(self) -> bool:
        """Whether the network takes any σ > 0, not only the levels."""
        return self.model is None or self.model.any_sigma


class HasSampler(Protocol):
    """A run, an exported model, or a loaded model."""

    def spec(self) -> ModelSpec:
        """The model without its weights. Raises NcsnxError."""

    def fast(self, work: Work = SILENT) -> Sampler:
        """The sampler that `ncsnx compare` recommends; says why. Raises NcsnxError where it recommends none."""
