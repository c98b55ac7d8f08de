"""Packing that ranks share, in threads: the bytes of one process, and resumption after the end of a rank."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ncsnx.data import Splits
from ncsnx.data.dataset import StoredImages
from ncsnx.data.packed import packing
from ncsnx.data.packed.packed_file import PackedFile
from ncsnx.data.packed.packing import pack
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.ranks import shared_disk
from ncsnx.ranks.rank_group import OtherRankError, RankGroup
from ncsnx.storage.parts import Part, write_part
from ncsnx.work import Work
from tests.data.test_packed import CHUNK, HELD_OUT, TRAIN, Counted, images, names, packed, reads, source
from tests.ranks.thread_ranks import in_ranks, work_in


def shared(out: Path, ranks: RankGroup, splits: Splits, **options: Any) -> PackedFile | None:
    settings = options.pop("settings", {"size": 4})
    return pack(splits, out, settings=settings, work=work_in(ranks), chunk_images=CHUNK, **options)


@pytest.fixture
def alone(tmp_path: Path) -> bytes:
    """The file that one process writes."""
    return packed(tmp_path / "alone.pack").path.read_bytes()


@pytest.mark.parametrize("world", [2, 3, 6])
def test_ranks_write_the_bytes_of_one_process_and_decode_each_image_once(
    world: int, tmp_path: Path, alone: bytes
) -> None:
    out = tmp_path / "b.pack"
    sources = [source() for _ in range(world)]
    first, *others = in_ranks(world, lambda ranks: shared(out, ranks, sources[ranks.rank]))
    assert first.path == out
    assert others == [None] * (world - 1)
    assert out.read_bytes() == alone
    assert names(tmp_path) == ["alone.pack", "b.pack"]
    decoded = [index for one in sources for index in reads(one)]
    assert sorted(decoded) == list(range(TRAIN + HELD_OUT))
    again = [source() for _ in range(world)]
    in_ranks(world, lambda ranks: shared(out, ranks, again[ranks.rank]))
    assert [reads(one) for one in again] == [[]] * world, "it is already packed"


def test_a_rank_without_a_chunk_may_come_when_the_file_is_complete(
    tmp_path: Path, alone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of six ranks, for four chunks, is slow."""
    out, wait = tmp_path / "b.pack", packing.wait_for_file

    def late(path: Path, written_by: str, ranks: RankGroup, *words: Any, **options: Any) -> None:
        while ranks.rank == 5 and not out.exists():
            time.sleep(0.01)
        wait(path, written_by, ranks, *words, **options)

    monkeypatch.setattr(packing, "wait_for_file", late)
    monkeypatch.setattr(shared_disk, "_SHARED_DISK_S", 1.0)
    first, *others = in_ranks(6, lambda ranks: shared(out, ranks, source()))
    assert (first.path, others) == (out, [None] * 5)
    assert out.read_bytes() == alone


class _Dying(Counted):
    """A data set whose rank dies when it reads an image."""

    def read(self, indices: Any) -> StoredImages:
        if self.broken in indices.tolist():
            raise ConnectionError("this rank dies")
        return super().read(indices)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_after_the_end_of_a_rank_any_number_of_ranks_resumes(world: int, tmp_path: Path, alone: bytes) -> None:
    """Rank 1 dies in its second chunk, of four."""
    out = tmp_path / "b.pack"
    dying = Splits(Counted(images(TRAIN, 0)), _Dying(images(HELD_OUT, TRAIN), broken=HELD_OUT - 1), "mark 0")
    sources = [source(), dying]
    results = in_ranks(2, lambda ranks: shared(out, ranks, sources[ranks.rank]))
    assert [type(result) for result in results] == [OtherRankError, ConnectionError]
    assert set(names(tmp_path)) <= {"alone.pack", "b.pack.part", "b.pack.chunks"}
    again = [source() for _ in range(world)]
    in_ranks(world, lambda ranks: shared(out, ranks, again[ranks.rank]))
    assert sorted(index for one in again for index in reads(one)) == list(range(3 * CHUNK, TRAIN + HELD_OUT))
    assert out.read_bytes() == alone
    assert names(tmp_path) == ["alone.pack", "b.pack"]


def test_chunks_that_a_dead_rank_had_saved_are_not_decoded_again(tmp_path: Path, alone: bytes) -> None:
    """Rank 0 fails at its first chunk, when rank 1 may have saved both of its own."""
    out, began = tmp_path / "b.pack", source()

    class Waiting(Counted):
        def read(self, indices: Any) -> StoredImages:
            if len(indices) > 1:
                while not (out.with_name("b.pack.chunks") / "00000024-00000029.safetensors").exists():
                    time.sleep(0.01)
                raise NcsnxError("picture 3 is gone")
            return super().read(indices)

    sources = [Splits(Waiting(images(TRAIN, 0)), began.held_out, "mark 0"), source()]
    failed, _ = in_ranks(2, lambda ranks: shared(out, ranks, sources[ranks.rank]))
    assert isinstance(failed, NcsnxError)
    again = source()
    packed(out, again)
    assert reads(again) == [*range(CHUNK), *range(2 * CHUNK, 3 * CHUNK)]
    assert out.read_bytes() == alone
    assert names(tmp_path) == ["alone.pack", "b.pack"]


def test_saved_chunks_that_are_torn_or_of_another_packing_are_decoded_again(tmp_path: Path, alone: bytes) -> None:
    out, chunks = tmp_path / "b.pack", tmp_path / "b.pack.chunks"
    with pytest.raises(NcsnxError):
        packed(out, Splits(Counted(images(TRAIN, 0), broken=0), images(HELD_OUT, TRAIN), "mark 0"))
    other = images(TRAIN, 0, seed=9)
    for number in range(2):
        these = [*range(number * CHUNK, (number + 1) * CHUNK)]
        found = other.read(torch.tensor(these))
        tensors = {"pixels": found.pixels, "labels": found.labels, "ids": found.ids}
        write_part(chunks, Part(torch.tensor(these), {**tensors, "packing": torch.zeros(32, dtype=torch.uint8)}))
    (chunks / "00000016-00000023.safetensors").write_bytes(b"torn")
    (chunks / "00000024-00000029.safetensors").symlink_to("/dev/zero")
    packed(out)
    assert out.read_bytes() == alone
    assert names(tmp_path) == ["alone.pack", "b.pack"]


def test_ranks_with_other_images_are_refused(tmp_path: Path) -> None:
    results = in_ranks(2, lambda ranks: shared(tmp_path / "b.pack", ranks, source(seed=ranks.rank)))
    assert all(isinstance(result, UsageError) for result in results)
    assert "has other images: source.fingerprint mark 0 on rank 0, mark 1 there" in str(results[0])
    assert names(tmp_path) == []


def test_an_unreadable_image_of_another_rank_is_its_error(tmp_path: Path) -> None:
    broken = Splits(Counted(images(TRAIN, 0), broken=12), images(HELD_OUT, TRAIN), "mark 0")
    results = in_ranks(2, lambda ranks: shared(tmp_path / "b.pack", ranks, broken if ranks.rank else source()))
    assert isinstance(results[0], OtherRankError)
    assert str(results[1]) == "cat.png: is broken"


def test_another_packing_forgets_the_chunks_of_the_last(tmp_path: Path) -> None:
    out, chunks = tmp_path / "b.pack", tmp_path / "b.pack.chunks"
    chunks.mkdir()
    (chunks / "00000000-00000007.safetensors").write_bytes(b"left")
    (chunks / ".00000000-00000007.safetensors.tmp-12-0123abcd").write_bytes(b"killed")
    packed(out, work=Work())
    assert names(tmp_path) == ["b.pack"]


def test_a_folder_of_that_name_keeps_what_is_not_of_a_packing(tmp_path: Path) -> None:
    mine = tmp_path / "b.pack.chunks" / "mine.safetensors"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    packed(tmp_path / "b.pack")
    assert mine.read_bytes() == b"mine"
