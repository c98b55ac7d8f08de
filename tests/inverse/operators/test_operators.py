"""Each operator against its definition."""

import math

import pytest
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse import Averaging, Blurring, Fourier, Graying, MatrixOperator
from tests.inverse.examples import OPERATORS, TopHalf, blurred, pictures, pseudo_inverse


def test_averaging_measures_the_mean_of_each_square() -> None:
    operator, x = Averaging((3, 6, 8), 2), pictures(OPERATORS["averaging"])
    means = x.view(3, 3, 3, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(operator.apply(x), means.flatten(1))
    torch.testing.assert_close(pseudo_inverse(operator, operator.apply(x))[:, :, ::2, 1::2], means)
    torch.testing.assert_close(Averaging((3, 6, 8), 1).apply(x), x.flatten(1))


def test_graying_measures_the_luma() -> None:
    operator, x = OPERATORS["graying"], pictures(OPERATORS["graying"])
    luma = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    torch.testing.assert_close(operator.apply(x), luma.flatten(1))


@pytest.mark.parametrize("sigma", [0.8, 2.5])
def test_blurring_is_the_gaussian_filter_with_mirrored_edges(sigma: float) -> None:
    operator, whole = Blurring((1, 12, 8), sigma), Blurring((1, 12, 8), sigma, cutoff=0.0)
    x = pictures(operator)
    expected = blurred(sigma, x)
    torch.testing.assert_close(whole.images(whole.apply(x)), expected, atol=1e-6, rtol=0)
    # the measurement is the blurred picture without the frequencies below the cutoff
    torch.testing.assert_close(operator.images(operator.apply(x)), expected, atol=3e-2, rtol=0)
    assert len(operator.singular_values) < 12 * 8 or sigma < 1


@pytest.mark.parametrize("name", ["fourier, real", "fourier, odd", "fourier, complex"])
def test_fourier_measurements_are_those_of_the_unitary_transform(name: str) -> None:
    operator = OPERATORS[name]
    assert isinstance(operator, Fourier)
    x = pictures(operator)
    whole = torch.complex(x[:, 0], x[:, 1] if operator.shape[0] == 2 else torch.zeros_like(x[:, 0]))
    spectrum = torch.fft.fft2(whole, norm="ortho") * operator.measured
    torch.testing.assert_close(operator.of_spectrum(spectrum), operator.coefficients(x))


@pytest.mark.parametrize("name", ["fourier, real", "fourier, odd", "fourier, complex"])
def test_noise_of_fourier_measurements_is_as_large_in_the_coefficients_as_the_singular_values_say(name: str) -> None:
    """The relative standard error of a standard deviation of n draws is 1/√(2n)."""
    operator, n = OPERATORS[name], 4000
    assert isinstance(operator, Fourier)
    parts = torch.randn(2, n, *operator.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    deviations = operator.of_spectrum(torch.complex(parts[0], parts[1]) * operator.measured).std(dim=0)
    assert float((deviations * operator.singular_values - 1).abs().max()) < 5 / (2 * n) ** 0.5


def test_an_operator_that_is_none_is_told_what_is_wrong() -> None:
    class Doubled(TopHalf):
        def coefficients(self, x: Tensor) -> Tensor:
            return 2 * super().coefficients(x)

        def images(self, c: Tensor) -> Tensor:
            return 2 * super().images(c)

    class Longer(TopHalf):
        def images(self, c: Tensor) -> Tensor:
            return super().images(c)[:, :, 1:]

    class Blind(TopHalf):
        @property
        def singular_values(self) -> Tensor:
            return 0 * super().singular_values

    class Skewed(TopHalf):
        def coefficients(self, x: Tensor) -> Tensor:
            return super().coefficients(x) + x[:, :, -1:].sum()

    for kind, told in (
        (Doubled, "are not orthonormal"),
        (Longer, r"Longer.adjoint gave \(2, 2, 4, 4\)"),
        (Blind, "finite and above 0"),
        (Skewed, "adjoint is not the adjoint of apply"),
    ):
        with pytest.raises(NcsnxError, match=told):
            kind((2, 5, 4)).check()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Averaging((1, 8, 8), 3), "a factor of 3 does not divide images of 8×8"),
        (lambda: Graying((1, 8, 8)), "expected 1 weight, one per channel"),
        (lambda: Blurring((1, 8, 8), 0.0), "a blur of 0 pixels"),
        (lambda: Fourier((3, 8, 8), torch.ones(8, 8, dtype=torch.bool)), "1 or 2 channels, not 3"),
        (lambda: Fourier((1, 8, 8), torch.ones(8, 4, dtype=torch.bool)), "expected frequencies of shape"),
        (lambda: MatrixOperator((1, 2, 2), torch.ones(3, 5)), r"expected a matrix \(m, 4\)"),
        (lambda: MatrixOperator((1, 2, 2), torch.ones(0, 4)), r"expected a matrix \(m, 4\)"),
        (
            lambda: MatrixOperator((1, 2, 2), torch.zeros(3, 4)),
            "largest value is above 0, found 0: it measures nothing",
        ),
        (lambda: MatrixOperator((1, 2, 2), torch.full((3, 4), math.nan)), "a matrix of finite real numbers"),
        (lambda: MatrixOperator((1, 2, 2), torch.full((3, 4), 1j)), "a matrix of finite real numbers"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(make: "object", told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        make()  # type: ignore[operator]
