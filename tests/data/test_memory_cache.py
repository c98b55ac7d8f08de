import pytest
import torch

from ncsnx.data import InMemory, Splits, TrainingBatches
from ncsnx.data.dataset import Dataset, StoredImages
from ncsnx.data.memory_cache import CachedImages, cache_in_memory
from ncsnx.errors import NcsnxError
from tests.data.recorded import Recorded, assert_equal

CPU = torch.device("cpu")
TRAIN, HELD_OUT, IMAGE_BYTES = 20, 6, 3 * 4 * 4


def images(count: int, first_id: int = 0, dtype: torch.dtype = torch.uint8) -> InMemory:
    generator = torch.Generator().manual_seed(first_id)
    pixels = torch.randint(0, 100, (count, 3, 4, 4), generator=generator).to(dtype)
    return InMemory(StoredImages(pixels, torch.arange(count) % 4, first_id + torch.arange(count)), (0, 100))


def source(dtype: torch.dtype = torch.uint8) -> Splits:
    return Splits(Recorded(images(TRAIN, 0, dtype)), Recorded(images(HELD_OUT, TRAIN, dtype)), "mark")


def reads(dataset: Dataset) -> list[int]:
    assert isinstance(dataset, Recorded)
    return dataset.reads


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_cached_images_equal_the_source_and_each_is_read_once(dtype: torch.dtype) -> None:
    original = source(dtype)
    kept = cache_in_memory(original, CPU)
    assert isinstance(kept.train, CachedImages)
    assert (len(kept.train), kept.train.shape, kept.train.value_range) == (TRAIN, (3, 4, 4), (0, 100))
    assert kept.fingerprint == "mark"
    del reads(original.train)[:]  # the first image was read for its type
    inner = images(TRAIN, 0, dtype)
    for indices in ([3, 0, 3], [0, 1, 2], [19, 3], list(range(TRAIN)), [5, 5]):
        assert_equal(kept.train.read(torch.tensor(indices)), inner.read(torch.tensor(indices)))
    assert sorted(reads(original.train)) == list(range(TRAIN))
    assert_equal(kept.held_out.read(torch.tensor([5, 0])), images(HELD_OUT, TRAIN, dtype).read(torch.tensor([5, 0])))


def test_batches_have_the_same_bits_with_and_without_the_cache() -> None:
    def batches(splits: Splits) -> list[StoredImages]:
        stream = TrainingBatches(splits.train, batch_size=7, seed=3)
        return [batch.images for batch in stream.between(0, 9)]

    plain, kept = batches(source()), cache_in_memory(source(), CPU)
    kept.train.read(torch.arange(5)).pixels.fill_(0)  # which is a copy
    for first, second in zip(batches(kept), plain, strict=True):
        assert_equal(first, second)


def test_an_image_that_cant_be_read_is_tried_again() -> None:
    original = Recorded(images(TRAIN), broken=[4])
    kept = cache_in_memory(Splits(original, images(1), ""), CPU).train
    with pytest.raises(NcsnxError, match=r"cat\.png"):
        kept.read(torch.tensor([1, 4]))
    original.broken.clear()
    assert_equal(kept.read(torch.tensor([1, 4])), images(TRAIN).read(torch.tensor([1, 4])))


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0, (False, False)),
        (IMAGE_BYTES * HELD_OUT - 1, (False, False)),
        (IMAGE_BYTES * HELD_OUT, (False, True)),
        (IMAGE_BYTES * TRAIN - 1, (False, True)),
        (IMAGE_BYTES * TRAIN, (True, False)),
        (IMAGE_BYTES * (TRAIN + HELD_OUT) - 1, (True, False)),
        (IMAGE_BYTES * (TRAIN + HELD_OUT), (True, True)),
    ],
)
def test_splits_that_do_not_fit_stay_and_training_images_come_first(budget: int, expected: tuple[bool, bool]) -> None:
    original = source()
    kept = cache_in_memory(original, CPU, budget)
    assert tuple(isinstance(split, CachedImages) for split in (kept.train, kept.held_out)) == expected
    if not expected[0]:
        assert kept.train is original.train


def test_the_type_counts_for_the_size() -> None:
    kept = cache_in_memory(source(torch.float32), CPU, IMAGE_BYTES * TRAIN)
    assert not isinstance(kept.train, CachedImages)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("in_memory", [False, True])
def test_pixels_are_on_a_device_with_room(in_memory: bool) -> None:
    device = torch.device("cuda", 0)
    original = Splits(images(TRAIN), images(HELD_OUT, TRAIN), "") if in_memory else source()
    kept = cache_in_memory(original, device)
    read = kept.train.read(torch.tensor([3, 0, 3]))
    assert (read.pixels.device, read.labels.device, read.ids.device) == (device, CPU, CPU)
    assert_equal(read, images(TRAIN).read(torch.tensor([3, 0, 3])))
    small = cache_in_memory(source(), device, IMAGE_BYTES * TRAIN)
    assert small.train.read(torch.tensor([0])).pixels.device == device
    assert small.held_out.read(torch.tensor([0])).pixels.device == CPU
