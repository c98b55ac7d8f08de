"""The engine of measurements: parts survive interruptions, rows are saved at once, subjects fail alone, one writer."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.errors import DivergedError, NcsnxError
from ncsnx.evaluation.engine import Measurement, measure_all, missing, writing
from ncsnx.runs.manifest import UnsoundError
from ncsnx.storage.parts import Part
from ncsnx.work import SILENT, Advance, Work


@attrs.define(eq=False, kw_only=True)
class Sums(Measurement[str]):
    """Measures the sum of ten images, where image i is the number i, in batches of four."""

    label: ClassVar = "the sums"
    folder: Path
    finite: bool = True
    rows: dict[str, float] = attrs.field(factory=dict)
    made: list[int] = attrs.field(factory=list)
    """Indices of the images that were made, in order."""
    reloaded: int = 0

    def protocol(self) -> dict[str, Any]:
        return {}

    def caption(self) -> str:
        return "sums"

    @property
    def kept_in(self) -> tuple[Path, str]:
        return self.folder, "sums"

    @property
    def place(self) -> Path:
        return self.folder / "sums"

    def reload(self) -> None:
        self.reloaded += 1

    def is_done(self, subject: str) -> bool:
        return subject in self.rows

    def add(self, subject: str, row: dict[str, Any]) -> None:
        self.rows[subject] = row["sum"]

    @property
    def count(self) -> int:
        return 10

    @property
    def batch_size(self) -> int:
        return 4

    def name(self, subject: str) -> str:
        return subject

    def mark(self, subject: str) -> str:
        return subject

    def units(self, subject: str) -> int:
        return 20

    def parts(self, subject: str, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        if subject == "gone":
            raise UnsoundError("it was removed")
        for start in range(0, len(indices), 4):
            work.check_stop()
            batch = torch.tensor(indices[start : start + 4])
            if subject == "wild":
                raise DivergedError("it is not finite")
            advance(2 * len(batch))
            self.made += batch.tolist()
            yield Part(batch, {"values": batch.view(-1, 1).float(), "others": torch.zeros(len(batch), 3, 2)})

    def row(self, subject: str, whole: Mapping[str, Tensor], work: Work) -> dict[str, Any]:
        return {"sum": float(whole["values"].sum())}

    def failed(self, subject: str, error: DivergedError) -> dict[str, Any] | None:
        return None if self.finite else {"sum": float("inf")}


class StopError(Exception):
    """Interrupts the work."""


def stopping_after(count: int) -> Work:
    left = iter(range(count))

    def check_stop() -> None:
        if next(left, None) is None:
            raise StopError

    return Work(check_stop=check_stop)


def carried_out(sums: Sums, subjects: Sequence[str], work: Work = SILENT) -> tuple[list[str], int]:
    """Problems of the measured subjects, and the reported units of progress."""
    told = []
    with writing(sums, work):
        problems = measure_all(sums, missing(sums, subjects), work, lambda count=1, kept=False: told.append(count))
    return problems, sum(told)


def test_a_stopped_measurement_resumes_after_its_last_finished_batch(tmp_path: Path) -> None:
    first = Sums(folder=tmp_path)
    with pytest.raises(StopError):
        carried_out(first, ["a", "b"], stopping_after(2))
    assert first.made == [0, 1, 2, 3, 4, 5, 6, 7]
    second = Sums(folder=tmp_path)
    assert carried_out(second, ["a", "b"]) == ([], 40)
    assert second.made == [8, 9, *range(10)]
    assert second.rows == {"a": 45.0, "b": 45.0}
    assert not list((tmp_path / "sums/.parts").iterdir()), "parts are removed once there is a row"
    assert carried_out(second, ["a", "b"]) == ([], 0)
    assert second.reloaded == 2, "rows of other processes are read under the lock"


def test_a_subject_that_cannot_be_measured_leaves_the_others_theirs(tmp_path: Path) -> None:
    sums, heard = Sums(folder=tmp_path), []
    problems, _ = carried_out(sums, ["gone", "wild", "a"], Work(warning=heard.append))
    assert problems == ["gone: it was removed", "wild: it is not finite"]
    assert heard == [f"left out: {line}" for line in problems]
    assert sums.rows == {"a": 45.0}
    tolerant = Sums(folder=tmp_path, finite=False)
    assert carried_out(tolerant, ["wild"])[0] == []
    assert tolerant.rows == {"wild": float("inf")}, "divergence is a result"


def test_two_writers_exclude_each_other(tmp_path: Path) -> None:
    with writing(Sums(folder=tmp_path), SILENT), pytest.raises(NcsnxError, match=r"the sums .* is being written by"):
        carried_out(Sums(folder=tmp_path), ["a"])
