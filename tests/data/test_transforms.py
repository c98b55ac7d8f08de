"""Pixels on their way to the network: transforms, crops, flips, dequantization, augmentation."""

import math
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import Augmentation, Data, Images, NCSNv2
from ncsnx.config.checks import FieldError
from ncsnx.config.data_sets import Dequantization, Digits, Transform
from ncsnx.data import Preprocessing
from ncsnx.data.augmentation import LABELS, augmented
from ncsnx.errors import NcsnxError
from ncsnx.randomness import Purpose, Stream
from ncsnx.space import LOGIT_MARGIN
from tests.config.examples import minimal
from tests.spaces import space_of

TRANSFORMS: tuple[Transform, ...] = ("none", "rescaled", "logit")
DEQUANTIZATIONS: tuple[Dequantization, ...] = ("none", "uniform", "gaussian")
PIXELS = torch.arange(256, dtype=torch.uint8).view(16, 1, 4, 4)
POSITIONS = torch.arange(1000, 1016)


def preprocessing(**fields: Any) -> Preprocessing:
    return prepared(Digits(**fields), (0, 255), seed=5)


def prepared(data: Data, value_range: tuple[float, float], seed: int = 0) -> Preprocessing:
    return Preprocessing(data, space_of(data), value_range, seed)


def unit(**fields: Any) -> torch.Tensor:
    """Training images from PIXELS without a transform."""
    return preprocessing(**fields).training(PIXELS, POSITIONS)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_inverse_brings_images_back(transform: Transform) -> None:
    x = torch.linspace(0, 1, 1001).view(1, 1, 7, 143)
    space = space_of(Digits(transform=transform))
    # the logit's margin λ remains, and float32 near 1 is coarse: half a step of 2**-24 in u
    tolerance = LOGIT_MARGIN + 2**-23 if transform == "logit" else 2**-23
    assert float((space.decode(space.encode(x)) - x).abs().max()) <= tolerance


def test_the_transforms_are_the_published_ones() -> None:
    x = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    assert space_of(Digits()).encode(x).tolist() == [0.0, 0.25, 1.0]
    assert space_of(Digits(transform="rescaled")).encode(x).tolist() == [-1.0, -0.5, 1.0]
    logit = space_of(Digits(transform="logit")).encode(x).tolist()
    for value, pixel in zip(logit, x.tolist(), strict=True):
        u = 1e-6 + (1 - 2e-6) * pixel
        assert value == pytest.approx(math.log(u) - math.log(1 - u), rel=1e-9)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_slope_of_a_transform_is_its_derivative(transform: Transform) -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64).view(101, 1, 1, 1).requires_grad_()
    space = space_of(Digits(transform=transform))
    (derivative,) = torch.autograd.grad(space.encode(x).sum(), x)
    if transform == "logit":  # at the ends, where `encode` clamps, autograd gives half the derivative
        x, derivative = x[1:-1], derivative[1:-1]
    assert torch.allclose(space.log_slope(x), derivative.log().flatten(), rtol=1e-12, atol=1e-12)
    pairs = x[:98].detach().view(49, 1, 1, 2)
    assert torch.allclose(space.log_slope(pairs), space.log_slope(x[:98]).view(49, 2).sum(dim=1))


@pytest.mark.parametrize("value_range", [(0, 255), (-1024, 3071), (0, 2**31)])
def test_integers_of_any_range_have_gray_levels(value_range: tuple[int, int]) -> None:
    low, high = value_range
    images = prepared(Digits(), value_range)
    pixels = torch.full((1, 1, 8, 8), high)
    assert images.gray_levels(pixels) == high - low + 1
    assert (images.continuous(pixels, torch.tensor([0])) * (high - low + 1)).floor().unique().item() == high - low


def test_floating_point_values_have_no_gray_levels() -> None:
    for pixels, value_range in ((torch.rand(1, 1, 8, 8), (0, 1)), (PIXELS, (0, 255.5))):
        with pytest.raises(NcsnxError, match="has no gray levels"):
            prepared(Digits(), value_range).gray_levels(pixels)


def test_the_declared_range_becomes_the_unit_interval() -> None:
    assert torch.equal(unit(), PIXELS / 255)
    digits = prepared(Digits(), (0, 16))
    assert digits.values(torch.tensor([0, 4, 16], dtype=torch.uint8)).tolist() == [0, 0.25, 1]


def test_flips_mirror_left_and_right_as_drawn_by_position() -> None:
    plain, flipped = unit(), unit(random_flip=True)
    mirrored = (Stream(5, Purpose.FLIP).uniform(POSITIONS, (1,)) < 0.5).flatten().tolist()
    assert 0 < sum(mirrored) < 16
    for before, after, mirror in zip(plain, flipped, mirrored, strict=True):
        expected = [row[::-1] if mirror else row for row in before[0].tolist()]
        assert after[0].tolist() == expected


def test_uniform_dequantization_fills_the_step_of_a_gray_level() -> None:
    u = Stream(5, Purpose.DEQUANTIZATION).uniform(POSITIONS, (1, 4, 4))
    expected = PIXELS / 255 * (255 / 256) + u / 256
    assert float((unit(dequantization="uniform") - expected).abs().max()) < 2**-23
    # 17 gray levels: the next level begins where this one ends
    digits = prepared(Digits(dequantization="uniform"), (0, 16))
    white = digits.training(torch.full((500, 1, 2, 2), 16, dtype=torch.uint8), torch.arange(500))
    assert 16 / 17 <= float(white.min()) < 16 / 17 + 1e-3
    assert 1 - 1e-3 < float(white.max()) <= 1


def test_gaussian_dequantization_adds_a_hundredth() -> None:
    z = Stream(5, Purpose.DEQUANTIZATION).normal(POSITIONS, (1, 4, 4))
    assert float((unit(dequantization="gaussian") - (PIXELS / 255 + 0.01 * z)).abs().max()) < 2**-23


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dequantization", DEQUANTIZATIONS)
def test_images_are_equal_for_any_split_of_a_batch(transform: Transform, dequantization: Dequantization) -> None:
    prepared = preprocessing(random_flip=True, transform=transform, dequantization=dequantization)
    for prepare in (prepared.training, prepared.held_out, prepared.measured):
        whole = prepare(PIXELS, POSITIONS)
        assert whole.dtype == torch.float32
        for size in (1, 3, 7):
            parts = [
                prepare(pixels, places)
                for pixels, places in zip(PIXELS.split(size), POSITIONS.split(size), strict=True)
            ]
            # logarithm and cosine may be rounded differently in the tail of a vector
            torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-6, atol=1e-6)


def test_held_out_and_measured_images_are_never_flipped_and_have_separate_draws() -> None:
    flipping, drawn = preprocessing(random_flip=True), preprocessing(dequantization="uniform")
    for prepare in (flipping.held_out, flipping.measured):
        assert torch.equal(prepare(PIXELS, POSITIONS), PIXELS / 255)
    assert not torch.equal(drawn.held_out(PIXELS, POSITIONS), drawn.training(PIXELS, POSITIONS))
    u = Stream(5, Purpose.DEQUANTIZATION).uniform(POSITIONS, (1, 4, 4), step=3)
    assert float((drawn.measured(PIXELS, POSITIONS) - (PIXELS + u) / 256).abs().max()) < 2**-23


LARGE = torch.arange(16 * 3 * 9 * 9).view(16, 3, 9, 9) % 251


def cropping(size: int = 4, stored: int | None = 9) -> Preprocessing:
    """Preprocessing of stored images of 9×9 pixels."""
    data = Images(root="x", image_size=size, random_crop=stored)
    return prepared(data, (0, 255), seed=5)


def test_training_images_are_cropped_by_their_position() -> None:
    cropped = cropping().training(LARGE, POSITIONS)
    assert cropped.shape == (16, 3, 4, 4)
    corners = Stream(5, Purpose.CROP).integers(POSITIONS, 6, (2,))
    for image, result, (top, left) in zip(LARGE, cropped, corners.tolist(), strict=True):
        assert torch.equal(result, image[:, top : top + 4, left : left + 4] / 255)


def test_other_images_are_cropped_from_the_center() -> None:
    center = LARGE[:, :, 2:6, 2:6] / 255
    assert torch.equal(cropping().values(LARGE), center)
    assert torch.equal(cropping().held_out(LARGE, POSITIONS), center)


def test_crops_of_rectangles_move_in_both_directions_and_squares_keep_their_draws() -> None:
    @attrs.frozen(kw_only=True)
    class Stored(Data):
        image_size: tuple[int, int]
        channels: int
        stored: tuple[int, int]

        @property
        def stored_size(self) -> tuple[int, int]:
            return self.stored

    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(20), indexing="ij")
    pixels = torch.stack((rows, columns)).expand(400, 2, 9, 20).to(torch.uint8)
    positions = torch.arange(400)
    data = Stored(image_size=(4, 12), channels=2, stored=(9, 20))
    cropped = (prepared(data, (0, 255), 7).training(pixels, positions) * 255).round().long()
    assert cropped.shape == (400, 2, 4, 12)
    corners = cropped[:, :, 0, 0]
    assert set(corners[:, 0].tolist()) == set(range(6))
    assert set(corners[:, 1].tolist()) == set(range(9))
    assert torch.equal(cropped - corners[:, :, None, None], pixels[:, :, :4, :12].long())
    center = (prepared(data, (0, 255), 7).values(pixels) * 255).round().long()
    assert center[0, :, 0, 0].tolist() == [2, 4]
    # the row of a rectangle's crop is that of the square with as many spare rows
    square = Stored(image_size=4, channels=2, stored=(9, 9))
    squares = (prepared(square, (0, 255), 7).training(pixels[..., :9], positions) * 255).round().long()
    assert torch.equal(squares[:, 0, 0, 0], corners[:, 0])


STREAM = Stream(3, Purpose.AUGMENTATION)
PLACES = torch.arange(400)


def ramps(height: int = 33, width: int = 49) -> Tensor:
    """(400, 2, H, W): the column and the row of each pixel, from the center."""
    rows, columns = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    return torch.stack([columns, rows]).float().expand(len(PLACES), -1, -1, -1).contiguous()


def test_half_of_the_images_are_mirrored_whatever_the_probability() -> None:
    x = torch.rand(len(PLACES), 1, 6, 8, generator=torch.Generator().manual_seed(0))
    moved, labels = augmented(x, PLACES, STREAM, 0.0)
    expected = torch.where(labels[:, :1, None, None] == 1, x.flip(-1), x)
    torch.testing.assert_close(moved, expected)
    assert not labels[:, 1:].any()


def test_each_transformation_happens_as_often_as_declared() -> None:
    labels = augmented(torch.zeros(20_000, 1, 1, 1), torch.arange(20_000), STREAM, 0.2)[1]
    assert labels.shape == (20_000, LABELS)
    happened = (labels != 0).float().mean(dim=0)
    # mirroring is a coin's; turning upside down is one's where it is chosen; the last three have two labels each, but
    # half of the stretchings are along the rows
    expected = torch.tensor([0.5, 0.1, *4 * [0.2], 0.1, *2 * [0.2]])
    assert (happened - expected).abs().max() < 5 * math.sqrt(0.5 * 0.5 / 20_000)


def test_the_image_is_moved_as_its_labels_say() -> None:
    """Mirror, scale, rotate, stretch, shift, as Karras et al. do. The labels give the place but for the sign of a
    stretching: they are those of the opposite direction with the other sign too."""
    x = ramps()
    moved, labels = augmented(x, PLACES, STREAM, 0.5)
    mirrored, upside_down, scale, cos, sin, along, across, right, down = labels.unbind(dim=1)
    flips = torch.diag_embed(torch.stack([1 - 2 * mirrored, 1 - 2 * upside_down], dim=1))
    scaled = torch.exp2(-0.2 * scale).view(-1, 1, 1)
    turned = torch.stack([1 + cos, -sin, sin, 1 + cos], dim=1).view(-1, 2, 2)
    size, double = torch.hypot(along, across), 2 * torch.atan2(across, along)
    symmetric = size * torch.stack([double.cos(), -double.sin(), -double.sin(), -double.cos()])
    shift = 0.125 * torch.stack([right * x.shape[3], down * x.shape[2]], dim=1)
    limits = torch.tensor([x.shape[3] // 2 - 2, x.shape[2] // 2 - 2]).view(1, 2, 1, 1)
    errors = []
    for sign in (1, -1):
        stretched = torch.matrix_exp(-0.2 * sign * math.log(2) * symmetric.T.reshape(-1, 2, 2))
        expected = torch.einsum("bij,bjhw->bihw", flips @ turned @ stretched * scaled, x - shift[..., None, None])
        inside = (expected.abs() <= limits).all(dim=1, keepdim=True).expand_as(x)
        assert inside.float().mean() > 0.5
        errors.append(torch.where(inside, moved - expected, 0.0).abs().flatten(1).amax(dim=1))
    assert torch.minimum(*errors).max() < 0.1  # of a pixel: torch's cubic kernel gives ramps to 0.05
    assert labels.any(dim=0).all()


def test_an_image_depends_on_its_position_alone() -> None:
    x = ramps()
    moved, labels = augmented(x, PLACES, STREAM, 0.5)
    some = torch.tensor([7, 3, 399])
    again, same = augmented(x[some], PLACES[some], STREAM, 0.5)
    assert torch.equal(labels[some], same)
    torch.testing.assert_close(moved[some], again)
    assert not torch.equal(labels, augmented(x, PLACES, Stream(4, Purpose.AUGMENTATION), 0.5)[1])


def test_a_network_without_labels_is_refused() -> None:
    with pytest.raises(FieldError, match="takes labels"):
        attrs.evolve(minimal(), model=NCSNv2(width=4), augmentation=Augmentation())
