"""Nearest training images: brute force, mirror images, blocks of any size, and bounded memory."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.nearest_images import Nearest, feature_space, nearest, pixel_space
from ncsnx.features.feature_network import Extracted
from tests.features.scripted import pictures


class Training:
    """Training images that record the sizes of batches."""

    title, facts = "images", dict[str, Any]()

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.given: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int, check_stop: Callable[[], None]) -> Iterator[Tensor]:
        for first in range(0, len(self.images), size):
            check_stop()
            batch = self.images[first : first + size]
            self.given.append(len(batch))
            yield batch


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the number of training images per block."""
    return lambda images: monkeypatch.setattr("ncsnx.evaluation.nearest_images._BLOCK_IMAGES", images)


class Means:
    """Means of quarters of an image as features, not symmetric under reflection."""

    name, dimensions, has_logits, facts = "means", 4, False, dict[str, Any]()

    def __init__(self) -> None:
        self.most = 0

    def __call__(self, images: Tensor) -> Extracted:
        self.most = max(self.most, len(images))
        quarters = images.float().unflatten(-1, (4, 2)).mean(dim=(1, 2, 4))
        return Extracted(quarters, None)


def brute_force(images: Tensor, training: Tensor, k: int, flips: bool) -> Nearest:
    """Nearest training images by definition, image by image."""
    plain, mirrored = (
        ((images.double()[:, None] - others.double()) / 255).square().sum(dim=(2, 3, 4)).sqrt()
        for others in (training, training.flip(-1))
    )
    flipped = (mirrored < plain) if flips else torch.zeros_like(plain, dtype=torch.bool)
    distances = torch.where(flipped, mirrored, plain)
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return Nearest(distances.gather(1, order), order, flipped.gather(1, order))


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("block", [3, 7, 1_000])
def test_they_are_those_of_brute_force_whatever_the_blocks(
    flips: bool, block: int, in_blocks: Callable[[int], None]
) -> None:
    in_blocks(block)
    training, images = pictures(50, 3), pictures(13, 3, side=8).flip(-2)
    training[[4, 20, 33]] = images[2]  # three equal images, at distance 0
    training[11] = images[5].flip(-1)
    (found,) = nearest(images, Training(training), [pixel_space()], 6, flips=flips)
    expected = brute_force(images, training, 6, flips)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.flipped, expected.flipped)
    torch.testing.assert_close(found.distances, expected.distances, rtol=1e-14, atol=0)
    assert found.indices[2, :3].tolist() == [4, 20, 33], "ties are ordered by index"
    assert found.distances[2, :3].tolist() == [0, 0, 0]
    assert (found.distances[5, 0] == 0) == flips
    assert bool(found.flipped[5, 0]) == flips


def test_features_are_compared_in_the_same_pass(in_blocks: Callable[[int], None]) -> None:
    in_blocks(17)
    training, images, network = pictures(90, 1), pictures(11, 1).flip(-2), Means()
    given = Training(training)
    pixels, features = nearest(images, given, [pixel_space(), feature_space(network)], 4, flips=True)
    assert torch.equal(pixels.indices, brute_force(images, training, 4, True).indices)
    mine, plain, mirrored = (network(one).features.double() for one in (images, training, training.flip(-1)))
    distances = torch.minimum(torch.cdist(mine, plain), torch.cdist(mine, mirrored))
    torch.testing.assert_close(features.distances, distances.sort(dim=1).values[:, :4], rtol=1e-6, atol=1e-6)
    assert given.given == [17, 17, 17, 17, 17, 5]


def test_memory_does_not_grow_with_the_training_set(
    monkeypatch: pytest.MonkeyPatch, in_blocks: Callable[[int], None]
) -> None:
    """No tensor's size depends on the number of training images."""
    in_blocks(8)
    largest = 0
    original = Nearest.update

    def watched(self: Nearest, rows: slice, squared: Tensor, *further: Any) -> None:
        nonlocal largest
        largest = max(largest, squared.numel())
        original(self, rows, squared, *further)

    monkeypatch.setattr(Nearest, "update", watched)
    network = Means()
    sizes = []
    for count in (40, 400):
        largest = network.most = 0
        found = nearest(pictures(30, 1), Training(pictures(count, 1)), [pixel_space(), feature_space(network)], 3)
        sizes.append((largest, network.most, [one.distances.shape for one in found]))
    assert sizes[0] == sizes[1]
    assert sizes[0][0] == 8 * 8


def test_fewer_training_images_than_neighbours_leave_places_free() -> None:
    (found,) = nearest(pictures(2, 1), Training(pictures(3, 1)), [pixel_space()], 5)
    assert (found.indices[:, 3:] == -1).all()
    assert found.distances[:, 3:].isinf().all()


def test_features_that_are_no_numbers_are_an_error() -> None:
    class Broken(Means):
        def __call__(self, images: Tensor) -> Extracted:
            return Extracted(torch.full((len(images), 4), torch.nan), None)

    with pytest.raises(NcsnxError, match="NaN or infinity in the features"):
        nearest(pictures(2, 1), Training(pictures(3, 1)), [feature_space(Broken())], 1)
