"""The engine in several ranks: each batch is made once, and rows, problems and messages are those of one rank."""

import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from ncsnx.errors import DivergedError, NcsnxError, UsageError
from ncsnx.evaluation.engine import make_parts, measure_all, missing, writing
from ncsnx.ranks import shared_disk
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.runs.manifest import UnsoundError
from ncsnx.storage.parts import Part
from ncsnx.work import Advance, Work
from tests.evaluation.test_engine import Sums
from tests.ranks.thread_ranks import in_ranks, work_in

SUBJECTS = ("a", "b", "c", "d", "e")


@attrs.define(eq=False, kw_only=True)
class Failing(Sums):
    """Sums of subjects, some of whose batches fail."""

    fails: dict[str, set[int]] = attrs.field(factory=dict)
    """First images of the batches that fail, by subject."""
    error: type[NcsnxError] = DivergedError
    waits: dict[int, threading.Event] = attrs.field(factory=dict)
    """Events that batches wait for, by their first image."""
    version: int = 0

    def protocol(self) -> dict[str, Any]:
        return {"version": self.version}

    @property
    def count(self) -> int:
        return 30

    def parts(self, subject: str, indices: Sequence[int], work: Work, advance: Advance) -> Iterator[Part]:
        for start in range(0, len(indices), 4):
            work.check_stop()
            batch = torch.tensor(indices[start : start + 4])
            first = int(batch[0])
            if (event := self.waits.get(first)) is not None:
                assert event.wait(30)
            if first in self.fails.get(subject, ()):
                raise self.error(f"images from {first} on")
            advance(20 * len(batch) // 30)
            self.made += [(subject, index) for index in batch.tolist()]
            yield Part(batch, {"values": batch.view(-1, 1).float(), "others": torch.zeros(len(batch), 3, 2)})


def measured(sums: Failing, ranks: RankGroup, subjects: Sequence[str] = SUBJECTS) -> list[str] | None:
    """Problems of the subjects that were measured; None on ranks other than 0."""
    work = work_in(ranks)
    with writing(sums, work):
        problems = measure_all(sums, missing(sums, subjects), work, lambda count=1, kept=False: None)
    return problems if ranks.is_first else None


def test_ranks_make_each_batch_once_and_rank_0_the_rows(tmp_path: Path) -> None:
    jobs = [Failing(folder=tmp_path) for _ in range(3)]
    assert in_ranks(3, lambda ranks: measured(jobs[ranks.rank], ranks)) == [[], None, None]
    made = [one for job in jobs for one in job.made]
    assert sorted(made) == [(subject, index) for subject in SUBJECTS for index in range(30)]
    assert all(len(job.made) >= 30 for job in jobs), "every rank has a share"
    assert jobs[0].rows == dict.fromkeys(SUBJECTS, 435.0)
    assert jobs[1].rows == jobs[2].rows == {}
    assert list((tmp_path / "sums/.parts").iterdir()) == []


def test_an_interrupted_measurement_resumes_with_another_number_of_ranks(tmp_path: Path) -> None:
    stopped = [Failing(folder=tmp_path, fails={"b": {12}}, error=UsageError) for _ in range(2)]
    found = in_ranks(2, lambda ranks: measured(stopped[ranks.rank], ranks))
    assert any(isinstance(one, UsageError) for one in found)
    kept = {one for job in stopped for one in job.made if one[0] not in stopped[0].rows}
    assert kept
    jobs = [Failing(folder=tmp_path, rows=dict(stopped[0].rows)) for _ in range(3)]
    assert in_ranks(3, lambda ranks: measured(jobs[ranks.rank], ranks))[0] == []
    again = {one for job in jobs for one in job.made}
    assert kept & again == set(), "finished batches are kept"
    assert jobs[0].rows == dict.fromkeys(SUBJECTS, 435.0)


def test_a_subject_that_fails_gives_the_message_of_one_rank(tmp_path: Path) -> None:
    for error in (DivergedError, UnsoundError):
        fails = {"b": {24, 8, 16}, "d": {28}, "e": {0, 4}}
        alone = Failing(folder=tmp_path / "alone", fails=fails, error=error)
        expected = measured(alone, ALONE)
        assert expected == ["b: images from 8 on", "d: images from 28 on", "e: images from 0 on"]
        for world in (2, 3, 4):
            jobs = [Failing(folder=tmp_path / f"{error.__name__}{world}", fails=fails, error=error) for _ in range(4)]
            found = in_ranks(world, lambda ranks, jobs=jobs: measured(jobs[ranks.rank], ranks))
            assert found == [expected, *[None] * (world - 1)]
            assert jobs[0].rows == alone.rows == {"a": 435.0, "c": 435.0}


@pytest.mark.parametrize("slow", [0, 1])
def test_a_slow_rank_makes_its_batches_before_the_one_that_failed(slow: int, tmp_path: Path) -> None:
    """One rank fails at image 12. The other, still at image 0, would fail at image 8, and as a single rank would."""
    subject = next(one for one in SUBJECTS if zlib.crc32(one.encode()) % 2 == slow)  # image 0 belongs to rank `slow`
    event = threading.Event()
    jobs = [Failing(folder=tmp_path, fails={subject: {8, 12}}, waits={0: event}) for _ in range(2)]
    threading.Timer(2.0, event.set).start()
    found = in_ranks(2, lambda ranks: measured(jobs[ranks.rank], ranks, [subject]))
    assert found == [[f"{subject}: images from 8 on"], None]


def test_a_rank_may_wait_for_others_longer_than_for_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_disk, "_SHARED_DISK_S", 0.5)
    event = threading.Event()
    jobs = [Failing(folder=tmp_path, waits={0: event, 4: event}) for _ in range(2)]
    own = [zlib.crc32(b"a") % 2, 1 - zlib.crc32(b"a") % 2]  # the ranks of images 0 and 4
    jobs[own[1]].waits = {}
    threading.Timer(2.0, event.set).start()

    def work(ranks: RankGroup) -> None:
        with writing(jobs[ranks.rank], work_in(ranks)):
            make_parts(jobs[ranks.rank], "a", work_in(ranks), lambda count=1, kept=False: None)

    assert in_ranks(2, work) == [None, None]


def test_an_error_of_any_rank_ends_all(tmp_path: Path) -> None:
    for first in (0, 4):
        jobs = [Failing(folder=tmp_path / str(first), fails={"a": {first}}, error=UsageError) for _ in range(2)]
        found = in_ranks(2, lambda ranks, jobs=jobs: measured(jobs[ranks.rank], ranks))
        assert sorted(type(one).__name__ for one in found) == ["OtherRankError", "UsageError"]


def test_a_rank_that_would_measure_something_else_is_refused(tmp_path: Path) -> None:
    jobs = [Failing(folder=tmp_path, version=version) for version in (1, 2)]
    for refused in in_ranks(2, lambda ranks: measured(jobs[ranks.rank], ranks)):
        assert isinstance(refused, UsageError)
        assert "would not measure the same: version 1 on rank 0, 2 there" in str(refused)
    assert list(tmp_path.iterdir()) == []


def test_progress_of_rank_0_counts_the_images_of_all(tmp_path: Path) -> None:
    told: list[int] = []
    jobs = [Failing(folder=tmp_path) for _ in range(2)]

    def work(ranks: RankGroup) -> object:
        job, work = jobs[ranks.rank], work_in(ranks)
        with writing(job, work):
            return measure_all(job, ["a"], work, lambda count=1, kept=False: ranks.is_first and told.append(count))

    assert in_ranks(2, work) == [[], []]
    assert 15 <= sum(told) <= 20, "20 units; each batch rounds down"
