"""Augmentation of training images: each is moved as its labels say, by its position in the stream alone."""

import math

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import Augmentation, NCSNv2
from ncsnx.config.checks import FieldError
from ncsnx.data.augmentation import LABELS, augmented
from tests.config.examples import minimal

SEED = 3
POSITIONS = torch.arange(400)


def ramps(height: int = 33, width: int = 49) -> Tensor:
    """(400, 2, H, W): the column and the row of each pixel, from the centre."""
    rows, columns = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    return torch.stack([columns, rows]).float().expand(len(POSITIONS), -1, -1, -1).contiguous()


def test_without_a_transformation_an_image_keeps_its_values() -> None:
    x = ramps()
    moved, labels = augmented(x, POSITIONS, SEED, 0.1)
    still = (labels == 0).all(dim=1)
    assert 0 < still.sum() < len(x)
    assert torch.equal(moved[still], x[still])


def test_half_of_the_images_are_mirrored_whatever_the_probability() -> None:
    x = torch.rand(len(POSITIONS), 1, 6, 8, generator=torch.Generator().manual_seed(0))
    moved, labels = augmented(x, POSITIONS, SEED, 0.0)
    expected = torch.where(labels[:, :1, None, None] == 1, x.flip(-1), x)
    torch.testing.assert_close(moved, expected)
    assert not labels[:, 1:].any()


def test_each_transformation_happens_as_often_as_declared() -> None:
    labels = augmented(torch.zeros(20_000, 1, 1, 1), torch.arange(20_000), SEED, 0.2)[1]
    assert labels.shape == (20_000, LABELS)
    happened = (labels != 0).float().mean(dim=0)
    # mirroring is a coin's; turning upside down is one's where it is chosen; the last three have two labels each
    expected = torch.tensor([0.5, 0.1, *7 * [0.2]])
    assert (happened - expected).abs().max() < 5 * math.sqrt(0.5 * 0.5 / 20_000)


def test_the_image_is_moved_as_its_labels_say() -> None:
    """The labels alone give the place; those of the stretching are the entries of its logarithm."""
    x = ramps()
    moved, labels = augmented(x, POSITIONS, SEED, 0.5)
    mirrored, upside_down, scale, cos, sin, along, across, right, down = labels.unbind(dim=1)
    flips = torch.diag_embed(torch.stack([1 - 2 * mirrored, 1 - 2 * upside_down], dim=1))
    symmetric = torch.stack([along, across, across, -along], dim=1).view(-1, 2, 2)
    stretched = torch.matrix_exp(-0.2 * math.log(2) * symmetric)
    turned = torch.stack([1 + cos, sin, -sin, 1 + cos], dim=1).view(-1, 2, 2)
    matrix = flips @ stretched @ turned * torch.exp2(-0.2 * scale).view(-1, 1, 1)
    shift = 0.125 * torch.stack([right * x.shape[3], down * x.shape[2]], dim=1)
    expected = torch.einsum("bij,bjhw->bihw", matrix, x) + shift[..., None, None]
    limits = torch.tensor([x.shape[3] // 2 - 2, x.shape[2] // 2 - 2]).view(1, 2, 1, 1)
    inside = (expected.abs() <= limits).all(dim=1, keepdim=True).expand_as(x)
    assert inside.float().mean() > 0.5
    assert (moved - expected)[inside].abs().max() < 0.1  # of a pixel: torch's cubic kernel gives ramps to 0.05
    assert labels.any(dim=0).all()


def test_an_image_depends_on_its_position_alone() -> None:
    x = ramps()
    moved, labels = augmented(x, POSITIONS, SEED, 0.5)
    some = torch.tensor([7, 3, 399])
    again, same = augmented(x[some], POSITIONS[some], SEED, 0.5)
    assert torch.equal(labels[some], same)
    torch.testing.assert_close(moved[some], again)
    assert not torch.equal(labels, augmented(x, POSITIONS, SEED + 1, 0.5)[1])


def test_a_network_without_labels_is_refused() -> None:
    with pytest.raises(FieldError, match="takes labels"):
        attrs.evolve(minimal(), model=NCSNv2(width=4), augmentation=Augmentation())
