"""Measurement maps: adjoints, norms, known transforms, and what is refused."""

import math

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.inverse import (
    Averaging,
    Fourier,
    LinearMap,
    MeasurementMap,
    Radon,
    Sense,
    Task,
    estimated_maps,
    from_deepinv,
    simulated_maps,
)
from ncsnx.inverse.operators.coils import root_sum_of_squares
from tests.inverse.examples import MatrixMap
from tests.spaces import unit_space

GENERATOR = torch.Generator().manual_seed(0)
SIZE = (12, 8)
COILS = simulated_maps(SIZE, 4)
SOME = torch.rand(SIZE, generator=GENERATOR) < 0.4
MAPS: dict[str, LinearMap] = {
    "coils": Sense(COILS, SOME),
    "coils, real": Sense(COILS, SOME, channels=1),
    "coils of pictures": Sense(torch.stack([COILS, COILS.conj()]), torch.stack([SOME, ~SOME])),
    "radon": Radon((1, *SIZE), [0.0, 30.0, 75.0, 90.0, 140.0]),
    "radon, few detectors": Radon((2, 7, 9), [10.0, 100.0], 5),
    "matrix": MatrixMap((1, 3, 4), torch.randn(5, 12, generator=GENERATOR)),
    "complex matrix": MatrixMap((2, 3, 2), torch.randn(7, 12, dtype=torch.complex64, generator=GENERATOR)),
    "operator": Averaging((3, 6, 8), 2),
}


def images(of: MeasurementMap, seed: int = 1) -> Tensor:
    count = of.pictures or 2
    return torch.rand(count, *of.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=MAPS.values(), ids=MAPS.keys())
def linear(request: pytest.FixtureRequest) -> LinearMap:
    found = request.param
    assert isinstance(found, LinearMap)
    return found


def test_a_map_of_ncsnx_has_the_adjoint_that_it_says(linear: LinearMap) -> None:
    linear.check()
    x = images(linear)
    assert linear.adjoint(linear.apply(x)).dtype == x.dtype
    assert linear.adjoint(linear.apply(x.float())).dtype == torch.float32
    torch.testing.assert_close(linear.normal(x), linear.adjoint(linear.apply(x)))


def test_the_norm_is_the_largest_singular_value(linear: LinearMap) -> None:
    size, count = math.prod(linear.shape), linear.pictures or 1
    largest = 0.0
    for place in range(count):
        one = linear.of(torch.full((size,), place))
        rows = one.normal(torch.eye(size).double().view(size, *linear.shape)).flatten(1)
        largest = max(largest, float(torch.linalg.eigvalsh(rows)[-1].sqrt()))
    assert linear.norm >= largest * (1 - 2e-3)
    assert linear.norm <= largest * (1 + 1e-3) or isinstance(linear, Sense), "coils have an upper bound"


def test_an_image_is_measured_alike_in_any_batch(linear: LinearMap) -> None:
    x = images(linear)
    alone = [linear.of(torch.tensor([place])).apply(x[place : place + 1]) for place in range(len(x))]
    torch.testing.assert_close(linear.apply(x), torch.cat(alone))


def test_one_coil_of_ones_measures_what_the_fourier_operator_does() -> None:
    x = images(MAPS["coils"])
    one = Sense(torch.ones(1, *SIZE, dtype=torch.complex64), SOME)
    operator = Fourier((2, *SIZE), SOME)
    torch.testing.assert_close(operator.of_spectrum(one.apply(x)[:, 0]), operator.coefficients(x))


def test_a_ray_through_a_disc_is_as_long_as_its_chord() -> None:
    size, radius = 64, 20.0
    places = torch.arange(size) - size // 2
    disc = (places.view(-1, 1) ** 2 + places**2 <= radius**2).double()
    sinogram = Radon((1, size, size), [0.0, 17.0, 45.0, 133.0]).apply(disc.view(1, 1, size, size))[0, 0]
    chords = 2 * (radius**2 - places.double() ** 2).clamp_min(0).sqrt()
    inner = places.abs() < 17  # at the edge, pixels are coarse
    assert float((sinogram - chords)[:, inner].abs().max()) < 2
    torch.testing.assert_close(sinogram.sum(dim=1), disc.sum().expand(4), rtol=2e-3, atol=0)


def test_simulated_maps_are_smooth_and_of_unit_power() -> None:
    maps = simulated_maps((32, 24), 6, seed=2)
    torch.testing.assert_close(root_sum_of_squares(maps), torch.ones(32, 24))
    assert float((maps[:, 1:] - maps[:, :-1]).abs().max()) < 0.3
    assert torch.equal(maps, simulated_maps((32, 24), 6, seed=2))
    assert not torch.equal(maps, simulated_maps((32, 24), 6, seed=3))


def test_maps_are_estimated_from_the_measured_center() -> None:
    """Up to a phase for each pixel, which all coils share and which the image then has."""
    size = (48, 32)
    maps = simulated_maps(size, 4)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij")
    image = torch.exp(-2 * (rows**2 + columns**2)) + 0.2
    mask = torch.zeros(size, dtype=torch.bool)
    mask[:, ::4] = True
    mask[:, [*range(6), *range(-6, 0)]] = True
    kspace = mask * torch.fft.fft2(maps * image, norm="ortho")
    found = estimated_maps(kspace, mask)
    middle = (rows.abs() < 0.7) & (columns.abs() < 0.7)
    alike = (found.conj() * maps).sum(dim=0).abs()[middle]
    assert float(alike.min()) > 0.98
    mask[:, [1, -1]] = False
    with pytest.raises(NcsnxError, match=r"fully sampled frequencies around 0, at least 4×4, found .*; give the maps"):
        estimated_maps(kspace, mask)


@pytest.mark.parametrize(("side", "measured", "is_enough"), [(4, 4, True), (8, 4, True), (9, 4, True), (8, 3, False)])
def test_a_block_of_four_frequencies_is_just_enough_for_maps(side: int, measured: int, is_enough: bool) -> None:
    mask = torch.zeros(side, side, dtype=torch.bool)
    first = side // 2 - 2
    mask[first : first + 4, first : first + measured] = True
    kspace = torch.fft.fft2(simulated_maps((side, side), 3), norm="ortho")
    given = kspace, torch.fft.ifftshift(mask)
    if is_enough:
        assert torch.allclose(root_sum_of_squares(estimated_maps(*given)).float(), torch.ones(side, side))
    else:
        with pytest.raises(NcsnxError, match=r"at least 4×4, found 4×2"):
            estimated_maps(*given)


@pytest.mark.parametrize("factor", [1e-13, 1e13])
def test_measurements_in_any_unit_are_shown_alike(factor: float) -> None:
    matrix, x = torch.randn(5, 12, generator=GENERATOR), torch.rand(1, 1, 3, 4)
    shown, scaled = (
        Task.of_measurement(of, of.apply(x)).shown()
        for of in (MatrixMap((1, 3, 4), matrix), MatrixMap((1, 3, 4), factor * matrix))
    )
    torch.testing.assert_close(scaled, shown)
    assert MatrixMap((1, 3, 4), factor * matrix).norm == pytest.approx(
        factor * float(torch.linalg.norm(matrix, 2)), 1e-3
    )


class Doubled(Sense):
    def adjoint(self, y: Tensor) -> Tensor:
        return 2 * super().adjoint(y)


class Rounded(Sense):
    """An adjoint that is wrong by far less than what noise shows."""

    def adjoint(self, y: Tensor) -> Tensor:
        return 1.0001 * super().adjoint(y)


class Unfinished(MatrixMap):
    def apply(self, x: Tensor) -> Tensor:
        raise KeyError("geometry")


class Longer(MatrixMap):
    def apply(self, x: Tensor) -> Tensor:
        return super().apply(x)[:, :-1]


ONES = torch.ones(5, 12)


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (Doubled(COILS, SOME), r"Doubled: adjoint is not the adjoint of apply: for random x and y, ⟨A x, y⟩ is"),
        (Rounded(COILS, SOME), r"Rounded: adjoint is not the adjoint of apply"),
        (Unfinished((1, 3, 4), ONES), r"Unfinished.apply fails on images \(2, 1, 3, 4\): KeyError: 'geometry'"),
        (Longer((1, 3, 4), ONES), r"Longer.apply gave \(2, 4\) for images \(2, 1, 3, 4\), expected \(2, 5\)"),
        (MatrixMap((1, 3, 4), 0 * ONES), "measures nothing"),
        (MatrixMap((1, 3, 4), 1e-25 * ONES), "norm in single precision is above 0, found 0: it measures nothing"),
        (
            MatrixMap((1, 3, 4), 1e-19 * ONES),
            "a map whose norm in single precision is from 1e-15 to 1e.15, .*, found 7.7.*e-19; multiply it",
        ),
        (
            MatrixMap((1, 3, 4), 1e19 * ONES),
            "a map whose norm in single precision is from 1e-15 to 1e.15, .*, found inf",
        ),
        (MatrixMap((1, 3, 4), math.nan * ONES), "gave NaN or infinity"),
    ],
)
def test_a_map_that_is_none_is_found_out(of: LinearMap, told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        of.check()


class SinglePrecision(LinearMap):
    """A map with a tensor of its own in float32, which fails for float64."""

    shape = (1, 3, 4)
    measured_shape = (5,)
    matrix = torch.randn(5, 12, generator=GENERATOR)

    def apply(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix).view(-1, 1, 3, 4)


def test_a_map_in_float32_serves_measurements_of_any_type() -> None:
    of, x = SinglePrecision(), torch.rand(1, 1, 3, 4)
    for y in (of.apply(x), of.apply(x).double(), of.apply(x).round().long()):
        task = Task.of_measurement(of, y)
        condition = task.ruled(unit_space(1, 3, 4), lowest=0.01, seed=0, alternatives=2)(torch.arange(2))
        _, guidance = condition.scored(lambda x, sigma: -x, x.expand(2, -1, -1, -1), 0.5)
        assert guidance.dtype == torch.float32
        assert task.shown().shape == x.shape
        assert task.misfits(x)[0] < 0.51


@pytest.mark.parametrize(
    ("maps", "mask", "told"),
    [
        (COILS.real, SOME, r"expected complex coil maps \(coils, H, W\) or .*found torch.float32"),
        (COILS, SOME.T, r"a mask \(H, W\) or \(P, H, W\); found .*\(4, 12, 8\) and \(8, 12\)"),
        (COILS, 2.0 * SOME, "a mask of zeros and ones"),
        (COILS, torch.stack([SOME, 0 * SOME]), "with a 1 where a frequency was measured"),
        (torch.stack([COILS, 0 * COILS]), SOME, "expected coil maps whose largest value is above 0, found 0"),
        (1e-40 * COILS, SOME, "coil maps whose largest value is from 1e-15 to 1e.15, .*, found 9.*e-41; multiply it"),
        (1e30 * COILS, SOME, "coil maps whose largest value is from 1e-15 to 1e.15, .*, found 9.*e.29"),
        (torch.stack([COILS] * 2), torch.stack([SOME] * 3), r"found torch.complex64 \(2, 4, 12, 8\) and \(3, 12, 8\)"),
    ],
)
def test_coils_that_do_not_fit_are_refused(maps: Tensor, mask: Tensor, told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        Sense(maps, mask)


def test_a_map_that_is_not_linear_has_the_norm_of_its_derivative() -> None:
    @attrs.frozen(eq=False)
    class Magnitudes(MeasurementMap):
        shape: tuple[int, int, int] = (1, 6, 4)
        measured_shape: tuple[int, ...] = (6, 4)

        def apply(self, x: Tensor) -> Tensor:
            return 3 * torch.fft.fft2(x[:, 0], norm="ortho").abs()

    magnitudes = Magnitudes()
    magnitudes.check()
    assert magnitudes.norm == pytest.approx(3 * math.sqrt(2), rel=0.35), "3 for each, √2 for a pair of mirrored ones"


def test_images_of_several_pictures_have_the_maps_of_theirs() -> None:
    sense = MAPS["coils of pictures"]
    assert isinstance(sense, Sense)
    each = torch.tensor([1, 0, 1, 1])
    chosen, x = sense.of(each), torch.rand(4, *sense.shape)
    assert chosen.pictures == 4
    alone = torch.cat([sense.of(each[place : place + 1]).apply(x[place : place + 1]) for place in range(4)])
    torch.testing.assert_close(chosen.apply(x), alone)
    torch.testing.assert_close(chosen.normal(x), chosen.adjoint(alone))
    torch.testing.assert_close(chosen.of(torch.tensor([1, 2])).apply(x[1:3]), alone[1:3])
    shared = Sense(torch.stack([COILS, COILS.conj()]), SOME).of(each)  # one mask for all
    torch.testing.assert_close(shared.apply(x[:1].expand(4, -1, -1, -1))[0], Sense(COILS.conj(), SOME).apply(x[:1])[0])


class LinearPhysics(torch.nn.Module):
    """A stand-in for the class of that name in deepinv."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.rand(1, 8, 8))

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return self.weights * x

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        return self.weights * y


class PhaseRetrieval(torch.nn.Module):
    """A stand-in for a physics that isn't linear, and has what it calls an adjoint."""

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return x**2

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        return y


def test_a_physics_is_linear_only_if_its_class_says_so() -> None:
    linear, other = from_deepinv(LinearPhysics(), (1, 8, 8)), from_deepinv(PhaseRetrieval(), (1, 8, 8))
    assert isinstance(linear, LinearMap)
    assert not isinstance(other, LinearMap)
    for found in (linear, other):
        found.check()
        assert found.apply(torch.rand(2, 1, 8, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("physics", "told"), [(3, "a method A, found int"), (MAPS["radon"], "a method A, found Radon")]
)
def test_what_is_no_physics_is_refused(physics: object, told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        from_deepinv(physics, (1, 8, 8))
