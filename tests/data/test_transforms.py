import math
from typing import Any

import pytest
import torch

from ncsnx.config.data_sets import Dequantization, Digits, Images, Transform
from ncsnx.data import Preprocessing, from_unit, log_slope, to_unit
from ncsnx.data.transforms import LOGIT_MARGIN
from ncsnx.errors import NcsnxError
from ncsnx.randomness import Purpose, Stream

TRANSFORMS: tuple[Transform, ...] = ("none", "rescaled", "logit")
DEQUANTIZATIONS: tuple[Dequantization, ...] = ("none", "uniform", "gaussian")
PIXELS = torch.arange(256, dtype=torch.uint8).view(16, 1, 4, 4)
POSITIONS = torch.arange(1000, 1016)


def preprocessing(**fields: Any) -> Preprocessing:
    return Preprocessing(Digits(**fields), value_range=(0, 255), seed=5)


def unit(**fields: Any) -> torch.Tensor:
    """Training images from PIXELS without a transform."""
    return preprocessing(**fields).training(PIXELS, POSITIONS)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_inverse_brings_images_back(transform: Transform) -> None:
    x = torch.linspace(0, 1, 1001).view(1, 1, 7, 143)
    data = Digits(transform=transform)
    # the logit's margin λ remains, and float32 near 1 is coarse: half a step of 2**-24 in u
    tolerance = LOGIT_MARGIN + 2**-23 if transform == "logit" else 2**-23
    assert float((to_unit(from_unit(x, data), data) - x).abs().max()) <= tolerance


def test_the_transforms_are_the_published_ones() -> None:
    x = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    assert from_unit(x, Digits()).tolist() == [0.0, 0.25, 1.0]
    assert from_unit(x, Digits(transform="rescaled")).tolist() == [-1.0, -0.5, 1.0]
    logit = from_unit(x, Digits(transform="logit")).tolist()
    for value, pixel in zip(logit, x.tolist(), strict=True):
        u = 1e-6 + (1 - 2e-6) * pixel
        assert value == pytest.approx(math.log(u) - math.log(1 - u), rel=1e-9)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_slope_of_a_transform_is_its_derivative(transform: Transform) -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64).view(101, 1, 1, 1).requires_grad_()
    data = Digits(transform=transform)
    (derivative,) = torch.autograd.grad(from_unit(x, data).sum(), x)
    if transform == "logit":  # at the ends, where from_unit clamps, autograd gives half the derivative
        x, derivative = x[1:-1], derivative[1:-1]
    assert torch.allclose(log_slope(x, data), derivative.log().flatten(), rtol=1e-12, atol=1e-12)
    pairs = x[:98].detach().view(49, 1, 1, 2)
    assert torch.allclose(log_slope(pairs, data), log_slope(x[:98], data).view(49, 2).sum(dim=1))


def test_continuous_values_fill_the_cells_of_all_grey_levels_whatever_the_data_declares() -> None:
    digits = Preprocessing(Digits(dequantization="gaussian"), value_range=(0, 16), seed=0)
    pixels = torch.arange(17, dtype=torch.uint8).repeat_interleave(500).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    within = digits.continuous(pixels, torch.arange(len(pixels))) * 17 - pixels
    assert 0 <= float(within.min()) < 1e-4
    assert 1 - 1e-4 < float(within.max()) < 1
    # five standard deviations of the mean of so many uniform draws
    assert abs(float(within.mean()) - 0.5) < 5 / math.sqrt(12 * within.numel())


@pytest.mark.parametrize("value_range", [(0, 255), (-1024, 3071), (0, 2**31)])
def test_integers_of_any_range_have_grey_levels(value_range: tuple[int, int]) -> None:
    low, high = value_range
    prepared = Preprocessing(Digits(), value_range, seed=0)
    pixels = torch.full((1, 1, 8, 8), high)
    assert prepared.grey_levels(pixels) == high - low + 1
    assert (prepared.continuous(pixels, torch.tensor([0])) * (high - low + 1)).floor().unique().item() == high - low


def test_floating_point_values_have_no_grey_levels() -> None:
    for pixels, value_range in ((torch.rand(1, 1, 8, 8), (0, 1)), (PIXELS, (0, 255.5))):
        with pytest.raises(NcsnxError, match="has no grey levels"):
            Preprocessing(Digits(), value_range, seed=0).grey_levels(pixels)


def test_the_declared_range_becomes_the_unit_interval() -> None:
    assert torch.equal(unit(), PIXELS / 255)
    digits = Preprocessing(Digits(), value_range=(0, 16), seed=0)
    assert digits.unit(torch.tensor([0, 4, 16], dtype=torch.uint8)).tolist() == [0, 0.25, 1]


def test_flips_mirror_left_and_right_as_drawn_by_position() -> None:
    plain, flipped = unit(), unit(random_flip=True)
    mirrored = (Stream(5, Purpose.FLIP).uniform(POSITIONS, (1,)) < 0.5).flatten().tolist()
    assert 0 < sum(mirrored) < 16
    for before, after, mirror in zip(plain, flipped, mirrored, strict=True):
        expected = [row[::-1] if mirror else row for row in before[0].tolist()]
        assert after[0].tolist() == expected


def test_uniform_dequantization_fills_the_step_of_a_grey_level() -> None:
    u = Stream(5, Purpose.DEQUANTIZATION).uniform(POSITIONS, (1, 4, 4))
    expected = PIXELS / 255 * (255 / 256) + u / 256
    assert float((unit(dequantization="uniform") - expected).abs().max()) < 2**-23
    # 17 grey levels: the next level begins where this one ends
    digits = Preprocessing(Digits(dequantization="uniform"), value_range=(0, 16), seed=0)
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


def test_held_out_images_are_never_flipped_and_have_separate_draws() -> None:
    assert torch.equal(preprocessing(random_flip=True).held_out(PIXELS, POSITIONS), PIXELS / 255)
    drawn = preprocessing(dequantization="uniform")
    assert not torch.equal(drawn.held_out(PIXELS, POSITIONS), drawn.training(PIXELS, POSITIONS))


def test_measured_images_are_dequantized_with_separate_draws() -> None:
    assert torch.equal(preprocessing(random_flip=True).measured(PIXELS, POSITIONS), PIXELS / 255)
    drawn = preprocessing(dequantization="uniform")
    u = Stream(5, Purpose.DEQUANTIZATION).uniform(POSITIONS, (1, 4, 4), step=3)
    assert float((drawn.measured(PIXELS, POSITIONS) - (PIXELS + u) / 256).abs().max()) < 2**-23


LARGE = torch.arange(16 * 3 * 9 * 9).view(16, 3, 9, 9) % 251


def cropping(size: int = 4, stored: int | None = 9) -> Preprocessing:
    """Preprocessing of stored images of 9×9 pixels."""
    data = Images(root="x", image_size=size, random_crop=stored)
    return Preprocessing(data, value_range=(0, 255), seed=5)


def test_training_images_are_cropped_by_their_position() -> None:
    cropped = cropping().training(LARGE, POSITIONS)
    assert cropped.shape == (16, 3, 4, 4)
    corners = Stream(5, Purpose.CROP).integers(POSITIONS, 6, (2,))
    for image, result, (top, left) in zip(LARGE, cropped, corners.tolist(), strict=True):
        assert torch.equal(result, image[:, top : top + 4, left : left + 4] / 255)


def test_other_images_are_cropped_from_the_centre() -> None:
    centre = LARGE[:, :, 2:6, 2:6] / 255
    assert torch.equal(cropping().unit(LARGE), centre)
    assert torch.equal(cropping().held_out(LARGE, POSITIONS), centre)
