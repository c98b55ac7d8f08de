"""The engine of measurements, alone and in ranks: parts survive interruptions, subjects fail alone, one writer."""

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config.codec import digest
from ncsnx.errors import DivergedError, NcsnxError, UsageError
from ncsnx.evaluation import measure
from ncsnx.evaluation.measure import Measure, measure_all, missing, writing
from ncsnx.ranks import sharing
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.ranks.sharing import batches_of
from ncsnx.runs.ledger import Subject
from ncsnx.runs.manifest import UnsoundError
from ncsnx.storage.batch_files import Tensors
from ncsnx.work import SILENT, Advance, Work
from tests.ranks.process_ranks import in_ranks, work_in

SUBJECTS = ("a", "b", "c", "d", "e")


@attrs.define(eq=False, kw_only=True)
class Sums(Measure):
    """Measures the sum of 30 images, where image i is the number i, in batches of four, some of which may fail."""

    run: Any = None
    spec: Any = None
    runtime: Any = None
    subjects: tuple[Any, ...] = ()
    folder: Path
    fails: dict[str, set[int]] = attrs.field(factory=dict)
    """First images of the batches that fail, by subject."""
    error: type[NcsnxError] = DivergedError
    finite: bool = True
    slow: set[int] = attrs.field(factory=set)
    """First images of the batches that take a second."""
    version: int = 0
    rows: dict[str, float] = attrs.field(factory=dict)
    made: list[tuple[str, int]] = attrs.field(factory=list)
    """The images that were made, in order."""
    reloads: list[None] = attrs.field(factory=list)
    count: int = 30
    batch_size: int = 4

    def protocol(self) -> dict[str, Any]:
        return {"version": self.version}

    @property
    def place(self) -> Path:
        return self.folder / "sums"

    def reload(self) -> None:
        self.reloads.append(None)

    def is_done(self, subject: str) -> bool:
        return subject in self.rows

    def begin(self, subject: str) -> None: ...

    def add(self, subject: str, row: dict[str, Any]) -> None:
        self.rows[subject] = row["sum"]

    def name(self, subject: str) -> str:
        return subject

    def mark(self, subject: str) -> str:
        return subject

    def facts(self) -> dict[str, Any]:
        return {}

    words = kept_as = quantities = measured = facts

    def units(self, subject: str) -> int:
        return 30

    def parts(self, subject: str, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Tensors]:
        for batch in map(torch.tensor, batches_of(indices, 4)):
            work.check_stop()
            first = int(batch[0])
            if first in self.slow:
                time.sleep(1)
            if first in self.fails.get(subject, ()):
                raise self.error(f"images from {first} on")
            advance(len(batch))
            self.made.extend((subject, index) for index in batch.tolist())
            yield {"values": batch.view(-1, 1).float(), "others": torch.zeros(len(batch), 3, 2)}

    def row(self, subject: str, whole: Mapping[str, Tensor], work: Work) -> dict[str, Any]:
        return {"sum": float(whole["values"].sum())}

    def failed(self, subject: str, error: DivergedError) -> dict[str, Any] | None:
        return None if self.finite else {"sum": float("inf")}


def carried_out(sums: Sums, subjects: Sequence[str], work: Work = SILENT) -> tuple[list[str], int]:
    """Problems of the measured subjects, and the reported units of progress."""
    told = []
    problems = measure_all(sums, missing(sums, subjects), work, lambda count=1, kept=False: told.append(count))
    return problems, sum(told)


def test_a_stopped_measurement_resumes_after_its_last_finished_batch(tmp_path: Path) -> None:
    polls = iter([None, None])

    def stop_at_the_third() -> None:
        if next(polls, "stop"):
            raise InterruptedError

    first = Sums(folder=tmp_path)
    with pytest.raises(InterruptedError):
        carried_out(first, ["a", "b"], Work(check_stop=stop_at_the_third))
    assert first.made == [("a", index) for index in range(8)]
    second = Sums(folder=tmp_path)
    assert carried_out(second, ["a", "b"]) == ([], 60)
    assert second.made == [*(("a", index) for index in range(8, 30)), *(("b", index) for index in range(30))]
    assert second.rows == {"a": 435.0, "b": 435.0}
    assert not list((tmp_path / "sums/.parts").iterdir()), "parts are removed once there is a row"
    assert carried_out(second, ["a", "b"]) == ([], 0)
    assert len(second.reloads) == 2, "rows of other processes are read under the lock"


def test_a_subject_that_cannot_be_measured_is_left_out_unless_divergence_is_a_result(tmp_path: Path) -> None:
    sums, heard = Sums(folder=tmp_path, fails={"wild": {4}}), []
    problems, _ = carried_out(sums, ["wild", "a"], Work(warning=heard.append))
    assert heard == [f"left out: {line}" for line in problems] == ["left out: wild: images from 4 on"]
    assert sums.rows == {"a": 435.0}
    tolerant = Sums(folder=tmp_path, fails={"wild": {4}}, finite=False)
    assert carried_out(tolerant, ["wild"])[0] == []
    assert tolerant.rows == {"wild": float("inf")}


def test_a_subject_has_one_writer_and_others_may_be_measured_meanwhile(tmp_path: Path) -> None:
    sums = Sums(folder=tmp_path)
    with writing(Sums(folder=tmp_path), "b"):
        with pytest.raises(NcsnxError, match=r"b of .*sums is being written by"):
            carried_out(sums, ["a", "b", "c"])
        assert carried_out(sums, ["c"]) == ([], 30)
    assert sums.rows == {"a": 435.0, "c": 435.0}


def test_a_subject_that_another_process_has_measured_meanwhile_is_done(tmp_path: Path) -> None:
    sums = Sums(folder=tmp_path, rows={"a": 1.0})
    assert measure_all(sums, ["a", "b"], SILENT, lambda count=1, kept=False: None) == []
    assert sums.rows == {"a": 1.0, "b": 435.0}
    assert not list((tmp_path / "sums/.parts").iterdir())


@attrs.frozen
class Measured:
    """Results of one rank."""

    problems: list[str] | None
    """A line for each subject that could not be measured; None on ranks other than 0."""
    rows: dict[str, float]
    made: list[tuple[str, int]]


def measured(sums: Sums, ranks: RankGroup, subjects: Sequence[str] = SUBJECTS) -> Measured:
    work = work_in(ranks)
    problems = measure_all(sums, missing(sums, subjects), work, lambda count=1, kept=False: None)
    return Measured(problems if ranks.is_first else None, sums.rows, sums.made)


def test_ranks_make_each_batch_once_and_rank_0_the_rows(tmp_path: Path) -> None:
    ranks = in_ranks(3, lambda ranks: measured(Sums(folder=tmp_path), ranks))
    assert [rank.problems for rank in ranks] == [[], None, None]
    made = [image for rank in ranks for image in rank.made]
    assert sorted(made) == [(subject, index) for subject in SUBJECTS for index in range(30)]
    assert all(len(rank.made) >= 30 for rank in ranks), "every rank has a share"
    assert ranks[0].rows == dict.fromkeys(SUBJECTS, 435.0)
    assert ranks[1].rows == ranks[2].rows == {}
    assert list((tmp_path / "sums/.parts").iterdir()) == []


def test_an_interrupted_measurement_resumes_with_another_number_of_ranks(tmp_path: Path) -> None:
    failing = Sums(folder=tmp_path, fails={"a": {12}}, error=UsageError)
    ended = in_ranks(2, lambda ranks: measured(failing, ranks))
    assert all(isinstance(one, BaseException) for one in ended), "an error of any rank ends all"
    assert any(isinstance(one, UsageError) for one in ended)
    kept = set(tmp_path.glob("sums/.parts/*/part-*"))
    assert kept
    ranks = in_ranks(3, lambda ranks: measured(Sums(folder=tmp_path), ranks))
    assert ranks[0].problems == []
    made = [image for rank in ranks for image in rank.made]
    assert len(made) == 30 * len(SUBJECTS) - sum(4 if path.stem[:1] != "28" else 2 for path in kept)
    assert ranks[0].rows == dict.fromkeys(SUBJECTS, 435.0)


@pytest.mark.parametrize(("error", "world"), [(DivergedError, 2), (UnsoundError, 4)])
def test_a_subject_that_fails_gives_one_ranks_message(tmp_path: Path, error: type[NcsnxError], world: int) -> None:
    fails = {"b": {24, 8, 16}, "d": {28}, "e": {0, 4}}
    alone = measured(Sums(folder=tmp_path / "alone", fails=fails, error=error), ALONE)
    assert alone.problems == ["b: images from 8 on", "d: images from 28 on", "e: images from 0 on"]
    shared = Sums(folder=tmp_path / "shared", fails=fails, error=error)
    ranks = in_ranks(world, lambda ranks: measured(shared, ranks))
    assert [rank.problems for rank in ranks] == [alone.problems, *[None] * (world - 1)]
    assert ranks[0].rows == alone.rows == {"a": 435.0, "c": 435.0}


def test_a_rank_may_wait_for_others_longer_than_for_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_SHARED_DISK_S", 0.3)
    job = Sums(folder=tmp_path, slow={0 if zlib.crc32(b"a") % 2 else 4})  # a batch of rank 1

    def work(ranks: RankGroup) -> None:
        measure_all(job, ["a"], work_in(ranks), lambda count=1, kept=False: None)

    assert in_ranks(2, work) == [None, None]


def test_an_ensemble_of_which_a_member_was_replaced_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = {step: SimpleNamespace(checkpoint=SimpleNamespace(weights_sha256=str(step))) for step in (4, 8)}
    monkeypatch.setattr(measure, "model_of", lambda run, step, runtime: saved[step])
    facts = {"weights": "raw", "precision": "fp32", "identity": "a", "members": (4, 8)}
    subject = Subject(step=8, weights_sha256=digest(["other", "8"]), **facts)
    job: Any = SimpleNamespace(
        spec=SimpleNamespace(sampler=None), given=None, runtime=None, run=SimpleNamespace(checkpoint=int)
    )
    with pytest.raises(UnsoundError, match="was replaced in the meantime"):
        Measure.load(job, subject)


def test_a_rank_that_would_measure_something_else_is_refused(tmp_path: Path) -> None:
    for refused in in_ranks(2, lambda ranks: measured(Sums(folder=tmp_path, version=ranks.rank + 1), ranks)):
        assert isinstance(refused, UsageError)
        assert "would not measure the same: version 1 on rank 0, 2 there" in str(refused)
    assert list(tmp_path.iterdir()) == []
