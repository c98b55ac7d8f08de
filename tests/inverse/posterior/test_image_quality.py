"""PSNR, SSIM and NMSE, against numbers of scikit-image and fastMRI's definitions."""

import math

import attrs
import numpy as np
import pytest
import torch

from ncsnx.config import Arrays
from ncsnx.inverse import psnr
from ncsnx.inverse.posterior.image_quality import Comparison, image_distances, ssim
from tests.spaces import space_of, unit_space

GENERATOR = torch.Generator().manual_seed(0)
RECORDED = [-0.834759739, 0.849373008, 0.019593126]
"""SSIM by scikit-image 0.26.0."""


def test_ssim_has_the_recorded_values_of_scikit_image() -> None:
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(9.0), indexing="ij")
    truth = (torch.sin(rows / 2) * torch.cos(columns / 3) + 1)[None, None] / 2
    images = torch.cat([truth.flip(3), truth**2, truth * 0 + 0.5])
    np.testing.assert_allclose(ssim(images.double(), truth.double(), 1.0), RECORDED, atol=1e-6, rtol=0)
    in_colors = torch.cat([truth, 2 * truth], dim=1), torch.cat([images, 2 * images], dim=1)
    expected = ssim(in_colors[1].double(), in_colors[0].double(), 2.0)
    per_channel = [ssim(images.double() * k, truth.double() * k, 2.0) for k in (1, 2)]
    np.testing.assert_allclose(expected, (per_channel[0] + per_channel[1]) / 2, atol=1e-9, rtol=0)
    assert ssim(images[:, :, :6].double(), truth[:, :, :6].double(), 1.0).isnan().all(), "smaller than the window"


def test_psnr_and_nmse_are_their_definitions() -> None:
    truth = torch.rand(1, 2, 8, 8, generator=GENERATOR)
    images = truth + 0.1 * torch.randn(3, 2, 8, 8, generator=GENERATOR)
    images[2] = truth[0]
    found = image_distances(images, truth, 1.0)
    assert found[:, 0].tolist() == psnr(images, truth)
    expected = [float((image - truth[0]).norm() ** 2 / truth.norm() ** 2) for image in images]
    np.testing.assert_allclose(found[:, 2], expected, rtol=1e-5)
    scaled = image_distances(-10 + 50 * images.double(), -10 + 50 * truth.double(), 50.0)
    np.testing.assert_allclose(scaled[:2, 0], found[:2, 0], rtol=1e-9)
    assert math.isinf(scaled[2, 0])


def test_a_truth_of_zeros_has_no_nmse() -> None:
    zeros = torch.zeros(1, 1, 8, 8)
    assert not image_distances(zeros + 0.5, zeros, 1.0)[0, 2].isfinite()
    assert not image_distances(zeros, zeros, 1.0)[0, 2].isfinite()


def test_complex_images_are_compared_by_their_magnitudes_in_the_truths_range() -> None:
    data = Arrays(path="x", image_size=8, channels=2, range="unbounded", complex=True, scale=5.0)
    truth = torch.tensor([0.6, 0.8]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    comparison = Comparison.of(truth, space_of(data))
    assert comparison is not None
    torch.testing.assert_close(comparison.truth, torch.full((1, 1, 8, 8), 5.0, dtype=torch.float64))
    assert comparison.data_range == pytest.approx(5.0)
    turned = torch.tensor([-5.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    assert comparison.distances(turned)[0, 2] < 1e-12


def test_bounded_data_have_their_own_range_and_unbounded_samples_are_left_as_they_are() -> None:
    x = torch.rand(2, 1, 8, 8, generator=GENERATOR)
    own = attrs.evolve(unit_space(1, 8, 8), own=(-1.0, 3.0))
    torch.testing.assert_close(own.own_numbers(x), -1 + 4 * x.double())
    free = space_of(Arrays(path="x", image_size=8, range="unbounded", scale=20.0))
    assert torch.equal(free.own_numbers(x), x.double())
    for space, expected in ((own, 4.0), (free, 20 * float(x[0].max()))):
        comparison = Comparison.of(x[:1], space)
        assert comparison is not None
        assert comparison.data_range == pytest.approx(expected)
