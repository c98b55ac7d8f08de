"""A model without its weights: what a run or an exported model says about itself. Reading it needs no torch."""

from typing import Protocol, Self

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import Experiment, Precision
from ncsnx.config.model import Model
from ncsnx.config.pretrained import Declared
from ncsnx.config.sampler import Sampler
from ncsnx.errors import Hint, UsageError, printable, quoted
from ncsnx.quantities import listed
from ncsnx.schedules.levels import sigmas
from ncsnx.space import Space
from ncsnx.work import SILENT, Work

NO_CLASS = -1
"""The class of images of any class."""
OF_ANY_CLASS = "none"
"""The text of `sampler.classes` for images of any class."""


def learns_scores(declared: Declared) -> bool:
    """Whether a model is a score network, not one that was tuned for consistency."""
    return not isinstance(declared, Experiment) or declared.loss.learns_scores


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
    has_cond: bool = False
    """Whether a function takes further inputs for each image."""
    learns_scores: bool = True
    """Whether D is the mean of clean images; otherwise it is the end of the probability flow (loss=consistency)."""

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
            learns_scores=learns_scores(declared),
        )

    @property
    def any_sigma(self) -> bool:
        """Whether the network takes any σ > 0, not only the levels."""
        return self.model is None or self.model.any_sigma

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes of the images that the sampler draws, in turn; NO_CLASS (−1) for images of any class.

        Empty for a network that isn't conditional on classes. Raises UsageError for classes that it doesn't know, and
        for guidance or images of any class where no class was ever withheld in training.
        """
        asked, guided = self.sampler.classes, self.sampler.guidance != 1
        if self.model is None or self.model.classes == 0:
            if asked or (guided and self.model is not None):
                raise UsageError(
                    "sampler.classes and sampler.guidance need a network that is conditional on classes",
                    Hint("train one", "ncsnx train EXPERIMENT model=unet model.classes=K"),
                )
            return ()
        is_of_any = asked == (OF_ANY_CLASS,) and OF_ANY_CLASS not in self.space.class_names
        if (guided or is_of_any) and self.model.class_dropout == 0:
            raise UsageError(
                f"sampler.{'guidance' if guided else 'classes=none'} needs a network that also knows images of any "
                "class, and this one was trained with model.class_dropout=0"
            )
        if guided and is_of_any:
            raise UsageError("sampler.guidance needs a class to guide towards, and sampler.classes is none")
        if is_of_any:
            return (NO_CLASS,)
        return tuple(self._class(name, self.model.classes) for name in asked) or tuple(range(self.model.classes))

    def require_classes(self) -> None:
        """Raises UsageError for classes that the network doesn't know."""
        _ = self.classes

    def _class(self, name: str, count: int) -> int:
        """The number of a class. Numbers stand for themselves, unless they are names of other classes."""
        names = self.space.class_names
        if name in names:
            return names.index(name)
        are_clear = not any(other.isdecimal() for other in names)
        if are_clear and name.isascii() and name.isdecimal() and int(name) < count:
            return int(name)
        known = [
            f"{number} {printable(other)}" if are_clear else printable(other) for number, other in enumerate(names)
        ]
        expected = listed(known) or f"numbers from 0 to {count - 1:,}"
        raise UsageError(f"sampler.classes: expected {expected}; found {quoted(name)}")


class HasSampler(Protocol):
    """A run, an exported model, or a loaded model."""

    def spec(self) -> ModelSpec:
        """The model without its weights. Raises NcsnxError."""

    def fast(self, work: Work = SILENT) -> Sampler:
        """The sampler that `ncsnx compare` recommends; says why. Raises NcsnxError where it recommends none."""
