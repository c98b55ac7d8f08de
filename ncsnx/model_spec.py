"""A model without its weights: what a run or an exported model says about itself. Reading it needs no torch."""

from typing import Protocol, Self

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import Precision
from ncsnx.config.model import Model
from ncsnx.config.pretrained import Declared
from ncsnx.config.sampler import Sampler
from ncsnx.errors import UsageError, quoted
from ncsnx.noise.levels import sigmas
from ncsnx.space import Space
from ncsnx.work import SILENT, Work

NO_CLASS = -1
"""The class of images of any class."""
_NONE = "none"


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

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes of the images that the sampler draws, which take them in turn; NO_CLASS (−1) for images of any.

        Empty for a network that isn't conditional on classes. Raises UsageError for classes that it doesn't know, and
        for "no class" or guidance where that was never trained.
        """
        asked, guided = self.sampler.classes, self.sampler.guidance != 1
        if self.model is None or self.model.classes == 0:
            if asked or (guided and self.model is not None):
                raise UsageError("sampler.classes and sampler.guidance: the network is not conditional on classes")
            return ()
        is_of_any = asked == (_NONE,)
        if (guided or is_of_any) and self.model.class_dropout == 0:
            raise UsageError(
                f"sampler.{'guidance' if guided else 'classes=none'} needs images of no class, and the network was "
                "trained without any (model.class_dropout=0)"
            )
        if guided and is_of_any:
            raise UsageError("sampler.guidance goes towards a class, and sampler.classes=none has none")
        if is_of_any:
            return (NO_CLASS,)
        return tuple(self._class(name, self.model.classes) for name in asked) or tuple(range(self.model.classes))

    def _class(self, name: str, count: int) -> int:
        names = self.space.class_names
        if name in names:
            return names.index(name)
        if name.isdecimal() and int(name) < count:
            return int(name)
        known = f", or names such as {quoted(names[0])}" if names else ""
        raise UsageError(f"sampler.classes: expected numbers from 0 to {count - 1:,}{known}, found {quoted(name)}")


class HasSampler(Protocol):
    """A run, an exported model, or a loaded model."""

    def spec(self) -> ModelSpec:
        """The model without its weights. Raises NcsnxError."""

    def fast(self, work: Work = SILENT) -> Sampler:
        """The sampler that `ncsnx compare` recommends; says why. Raises NcsnxError where it recommends none."""
