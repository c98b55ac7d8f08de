"""What is measured: the contract of everything that `ncsnx.evaluation.engine.measuring` carries out.

A measurement has subjects: checkpoints, settings of a sampler, or a single one. Of each it looks at `count` images, one
batch after the other. A batch depends on nothing but its subject and its indices, so that whoever finds it missing can
make it; it is kept as a part until its subject has a row. A new measurement is a subclass that says what a part holds,
how one is made, and how a row is made of all of them; locks, interruptions, progress and debris are the engine's.
A search of neighbours, which is no row, has its samples in parts alike (`WorkInParts`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from ncsnx.errors import DivergedError
from ncsnx.runs.score_files import Row
from ncsnx.storage.parts import Part
from ncsnx.work import Advance, Work

Subject = TypeVar("Subject")
PartLayout = Mapping[str, Sequence[int | None]]
"""Shape of each tensor of a part without its first dimension, that of the batch; None for any length."""


class WorkInParts(ABC, Generic[Subject]):
    """What is made of `count` images of each subject, one batch after the other, under one protocol."""

    what: ClassVar[str]
    """What messages call it: 'the sweep'."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What determines the numbers of a subject, beside the subject; as JSON."""

    @abstractmethod
    def caption(self) -> str:
        """The protocol in a sentence, for people and for plots."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The folder that everything is kept in; it need not exist. Raises NcsnxError."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Images of each subject."""

    @property
    @abstractmethod
    def layout(self) -> PartLayout:
        """What a part holds."""

    @abstractmethod
    def mark(self, subject: Subject) -> str:
        """The name of the folder of a subject's parts: another for another subject."""

    @abstractmethod
    def units(self, subject: Subject) -> int:
        """What progress counts of a subject."""

    @abstractmethod
    def parts(self, subject: Subject, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        """Makes the parts of these of the `count` images, in batches of its own size; each is kept when it comes.

        Asks `work` between evaluations whether to stop, and tells `advance` of its progress. Raises NcsnxError:
        UnsoundError for a subject that is damaged or gone, DivergedError for values that aren't finite.
        """

    def reload(self) -> None:
        """Takes over what another process has kept meanwhile; by default nothing is remembered. Raises NcsnxError."""

    def has_beside(self, parts: Path, indices: Iterable[int]) -> bool:
        """Whether the files that parts of these images have beside them are there; by default there are none."""
        return True

    def finish(self, subject: Subject, parts: Path) -> None:
        """Called when the result of a subject is kept, before the folder of its parts is removed. Raises NcsnxError."""


class Measurement(WorkInParts[Subject]):
    """What gives a row for each subject."""

    @abstractmethod
    def is_done(self, subject: Subject) -> bool:
        """Whether there is nothing left to do for a subject."""

    @abstractmethod
    def row(self, subject: Subject, whole: Mapping[str, Tensor]) -> Row:
        """The row of a subject from the tensors of all its parts, (count, …) each. Raises NcsnxError."""

    @abstractmethod
    def add(self, subject: Subject, row: Row) -> None:
        """Keeps the row of a subject, durably. Raises NcsnxError."""

    def name(self, subject: Subject) -> str:
        """What a person calls a subject; by default its mark."""
        return self.mark(subject)

    def problem(self, row: Row) -> str | None:
        """What makes a row useless, None where nothing does: its subject then counts as diverged."""
        return None

    def failed(self, subject: Subject, error: DivergedError) -> Row | None:
        """The row of a subject whose values aren't finite; None, the default: it has none."""
        return None
