"""Batches as a function of seed and step, and work in processes ahead."""

import os
import subprocess
import sys
from functools import partial

import attrs
import pytest
import torch

from ncsnx.data import InMemory, StoredImages, TrainingBatches
from ncsnx.data.batches import Batch
from ncsnx.data.read_ahead import read_ahead
from ncsnx.errors import Hint, NcsnxError
from ncsnx.randomness import Purpose, Stream
from tests.forked import REPOSITORY


def numbered(size: int) -> InMemory:
    """Images whose pixels are their index."""
    index = torch.arange(size)
    return InMemory(
        StoredImages(index.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), index % 10, index), (0, size)
    )


def ids(batch: Batch) -> list[int]:
    return [int(number) for number in batch.images.ids]


def same(first: Batch, second: Batch) -> bool:
    parts = [(*attrs.astuple(batch.images, recurse=False), batch.positions) for batch in (first, second)]
    return all(torch.equal(a, b) for a, b in zip(*parts, strict=True))


def test_every_epoch_has_every_image_once_in_its_own_order() -> None:
    batches = TrainingBatches(numbered(10), batch_size=4, seed=3)
    stream = [number for step in range(10) for number in ids(batches.at(step))]
    epochs = [stream[start : start + 10] for start in range(0, 40, 10)]
    for number, epoch in enumerate(epochs):
        assert epoch == Stream(3, Purpose.DATA_ORDER).permutation(10, number).tolist()
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_may_be_larger_than_the_data() -> None:
    batches = TrainingBatches(numbered(3), batch_size=8, seed=0)
    stream = ids(batches.at(0)) + ids(batches.at(1)) + ids(batches.at(2))
    assert all(sorted(stream[start : start + 3]) == [0, 1, 2] for start in range(0, 24, 3))


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    batches = TrainingBatches(numbered(10), batch_size=4, seed=0)
    forwards = [batches.at(step) for step in range(9)]
    backwards = [TrainingBatches(numbered(10), batch_size=4, seed=0).at(step) for step in reversed(range(9))]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert all(same(a, b) for a, b in zip(forwards[4:], batches.between(4, 9), strict=True))
    other = TrainingBatches(numbered(10), batch_size=4, seed=1)
    assert [ids(other.at(step)) for step in range(9)] != [ids(batch) for batch in forwards]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_two_workers_give_the_same_batches_and_leave_the_global_generator_alone() -> None:
    batches = TrainingBatches(numbered(10), batch_size=4, seed=0)
    before = torch.get_rng_state()
    ahead = list(batches.between(3, 12, workers=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(ahead) == 9
    assert all(same(batches.at(3 + number), batch) for number, batch in enumerate(ahead))


def test_a_data_set_without_a_training_image_is_refused() -> None:
    with pytest.raises(NcsnxError, match="no training image"):
        TrainingBatches(numbered(0), batch_size=4, seed=3)


HINT = Hint("download it", "ncsnx data download digits")


def square(number: int) -> int:
    return number * number


def refuse(bad: int, number: int) -> int:
    if number == bad:
        raise NcsnxError(f"picture {number} is broken\nin two lines", HINT)
    return number


def fail(number: int) -> int:
    raise ZeroDivisionError("a bug")


def die(number: int) -> int:
    os._exit(3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_values_come_in_the_order_of_the_keys(workers: int) -> None:
    keys = [5, 0, 5, *range(40)]
    assert list(read_ahead(square, keys, workers)) == [square(key) for key in keys]
    assert list(read_ahead(square, [], workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_keeps_its_message_and_hints_and_comes_after_earlier_values(workers: int) -> None:
    read = read_ahead(partial(refuse, 4), range(9), workers)
    assert [next(read) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(NcsnxError) as caught:
        next(read)
    assert (caught.value.message, caught.value.hints) == ("picture 4 is broken\nin two lines", (HINT,))


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="in fail"):
        list(read_ahead(fail, [1], workers=1))


def test_a_dead_worker_is_one_line() -> None:
    with pytest.raises(NcsnxError, match=r"a data worker has died .*workers="):
        list(read_ahead(die, [1], workers=1))


def test_a_process_ends_after_an_unhandled_error() -> None:
    program = "from tests.data.test_batches import *\nfor _ in read_ahead(die, range(9), workers=2): pass"
    finished = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, timeout=60)
    assert finished.returncode == 1
