"""The contract of a measurement, which `ncsnx.evaluation.measuring` carries out.

A measurement has subjects: checkpoints, sampler settings, or a single one. It processes `count` images of each, batch
by batch. A batch depends on its subject and indices only, so any process can make a missing one, and ranks can share
them. Batches are saved as parts until their subject has a row. A new measurement is a subclass that defines the layout
of a part, how to make one, and how to compute a row from all parts. The engine handles locks, interruptions,
progress, ranks and debris.

`WorkInParts` is the contract without rows; a search for neighbours draws its samples in the same kind of parts.
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
"""Shape of each tensor of a part, without the batch dimension; None stands for any length."""


class WorkInParts(ABC, Generic[Subject]):
    """Work on `count` images of each subject, batch by batch, under one protocol."""

    label: ClassVar[str]
    """Name in messages: 'the sweep'."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Everything but the subject that determines its numbers, as JSON."""

    @abstractmethod
    def caption(self) -> str:
        """The protocol in words, for messages and plots."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The folder of all files, which may not exist yet. Raises NcsnxError."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Images per subject."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Images per batch."""

    @property
    @abstractmethod
    def layout(self) -> PartLayout:
        """Tensors of a part."""

    @abstractmethod
    def mark(self, subject: Subject) -> str:
        """The name of the folder of a subject's parts, unique to the subject."""

    @abstractmethod
    def units(self, subject: Subject) -> int:
        """Units of progress of a subject."""

    @abstractmethod
    def parts(self, subject: Subject, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        """Yields the parts of the images at `indices`, in batches of `batch_size`; the engine saves each at once.

        Calls `work.check_stop` between evaluations and reports progress to `advance`. Raises NcsnxError: UnsoundError
        for a subject that is damaged or was removed, DivergedError for NaN or infinity.
        """

    def reload(self) -> None:
        """Reads results that another process saved in the meantime; does nothing by default. Raises NcsnxError."""

    def has_extra_files(self, parts: Path, indices: Iterable[int]) -> bool:
        """Whether the extra files of these images' parts exist; True by default, since parts have none."""
        return True

    def finish(self, subject: Subject, parts: Path) -> None:
        """Called once a subject's result is saved, before the folder of its parts is removed. Raises NcsnxError."""


class Measurement(WorkInParts[Subject]):
    """Work that gives a row for each subject."""

    @abstractmethod
    def is_done(self, subject: Subject) -> bool:
        """Whether a subject is finished."""

    @abstractmethod
    def row(self, subject: Subject, whole: Mapping[str, Tensor]) -> Row:
        """The row of a subject from the tensors of all its parts, (count, …) each. Raises NcsnxError."""

    @abstractmethod
    def add(self, subject: Subject, row: Row) -> None:
        """Saves the row of a subject durably. Raises NcsnxError."""

    def name(self, subject: Subject) -> str:
        """The subject's name in messages; by default its mark."""
        return self.mark(subject)

    def problem(self, row: Row) -> str | None:
        """Why a row is useless, so that its subject counts as diverged; None if it is fine."""
        return None

    def failed(self, subject: Subject, error: DivergedError) -> Row | None:
        """The row of a subject that diverged; None, the default, if it gets none."""
        return None
