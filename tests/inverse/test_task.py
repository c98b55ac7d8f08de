"""Tasks: validation, and operators of users."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ncsnx
from ncsnx.commands.tasks import Tasks
from ncsnx.config import Arrays, ConsistentAnnealed, Data, Digits
from ncsnx.errors import NcsnxError
from ncsnx.inverse import (
    Blurring,
    Graying,
    LinearMap,
    LinearOperator,
    Masking,
    MatrixOperator,
    MeasurementMap,
    Sense,
    Task,
    register_task,
    simulated_maps,
    tasks_from_files,
)
from tests.spaces import space_of, unit_space

SHAPE = (1, 8, 8)
HALF = torch.arange(64).view(SHAPE) < 32
GENERATOR = torch.Generator().manual_seed(3)


@pytest.mark.parametrize("rank", [2, 5])
def test_a_matrix_takes_its_measurements_in_its_rows(rank: int) -> None:
    matrix = torch.randn(5, rank, generator=GENERATOR) @ torch.randn(rank, 64, generator=GENERATOR)
    x = torch.rand(3, *SHAPE, generator=GENERATOR)
    task = Task.of_measurement(MatrixOperator(SHAPE, matrix), x.flatten(1) @ matrix.T)
    assert task.values.shape == (3, rank)
    seen = task.operator.images(task.operator.coefficients(x.double()))
    torch.testing.assert_close(task.shown(), seen.float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(task.values, task.operator.coefficients(x.double()), atol=1e-4, rtol=1e-4)


VALUES = torch.zeros(2, 32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"values": torch.zeros(2, 31)}, r"expected values \(P, 32\).*found \(2, 31\)"),
        ({"values": VALUES + math.nan}, "values: found .* NaN, infinite or too large values"),
        ({"values": VALUES + 1j}, "values that are real numbers, found complex ones"),
        ({"noise": -0.1}, "expected noise >= 0"),
        ({"noise": math.nan}, "expected noise >= 0"),
        ({"inputs": torch.zeros(1, *SHAPE)}, r"expected inputs \(2, 1, 8, 8\) for Masking, found \(1, 1, 8, 8\)"),
        ({"truth": torch.zeros(2, 8, 8)}, r"expected truth \(2, 1, 8, 8\) for Masking, found \(2, 8, 8\)"),
        ({"pictures": ("a",)}, "expected 2 names of pictures"),
        ({"operator": Masking(HALF & ~HALF), "values": torch.zeros(2, 0)}, "mine: Masking measures nothing"),
        ({"operator": HALF}, "expected a MeasurementMap, such as a LinearOperator, not Tensor"),
        ({"facts": {"mask": HALF}}, "expected facts that are JSON"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        Task(**{"name": "mine", "operator": Masking(HALF), "values": VALUES, **change})


def test_noise_of_a_condition_differs_between_seeds_and_images() -> None:
    task = Task(name="mine", operator=Masking(HALF), values=VALUES[:1])
    conditions = [task.ruled(unit_space(*SHAPE), 0.01, seed, 2)(torch.arange(2)) for seed in (0, 1)]
    noisy = torch.cat([condition(torch.zeros(2, *SHAPE), 1.0, 0) for condition in conditions])
    assert len(noisy.unique(dim=0)) == 4


@pytest.mark.parametrize(
    ("data", "largest"), [(Digits(), 1.0), (Arrays(path="own.npy", image_size=8, range="unbounded", scale=1.0), 9.0)]
)
def test_only_bounded_data_limit_the_values_of_a_result(data: Data, largest: float) -> None:
    task = Task(name="mine", operator=Masking(HALF), values=VALUES[:1])
    result = task.ruled(space_of(data), 0.01, 0, 1)(torch.arange(1))(torch.full((1, *SHAPE), 9.0), 0.0, 0)
    assert (float(result.min()), float(result.max())) == (0.0, largest)


@pytest.mark.parametrize(
    ("operator", "y", "told"),
    [
        (Masking(HALF), torch.zeros(2, 31), r"Masking: expected measurements \(P, 32\), found \(2, 31\)"),
        (Masking(HALF), torch.zeros(2, 32) + 1j, "found complex ones"),
        (Blurring(SHAPE, 1.0), torch.zeros(2, 8, 8), "expected blurred pictures of"),
        (MatrixOperator(SHAPE, torch.ones(3, 64)), torch.zeros(2, 1), r"expected measurements \(P, 3\), one per row"),
    ],
)
def test_measurements_of_another_shape_are_refused(operator: LinearOperator, y: Tensor, told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        Task.of_measurement(operator, y)


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (0, "above 0, found 0"),
        (1e-40, "from 1e-15 to 1e.15, .*, found 1e-40"),
        (1e308, "from 1e-15 .*, found 1e.308; multiply it"),
    ],
)
def test_a_matrix_beyond_single_precision_is_refused(factor: float, told: str) -> None:
    with pytest.raises(NcsnxError, match=f"expected a matrix whose largest value is {told}"):
        MatrixOperator(SHAPE, factor * torch.ones(3, 64, dtype=torch.float64))


def test_the_noise_of_a_map_that_measures_nothing_is_refused() -> None:
    task = Task.of_measurement(Graying((3, 8, 8), (1e-40, 0.0, 0.0)), torch.zeros(1, 64), noise=0.1)
    with pytest.raises(
        NcsnxError,
        match=r"measured: expected a map whose norm in single precision is from 1e-15 to 1e.15, .*found 9.9.*e-41",
    ):
        task.sigma(unit_space(3, 8, 8))


FIFTY = space_of(Arrays(path="own.npy", image_size=8, range="unbounded", scale=50.0))


class Squared(MeasurementMap):
    shape = SHAPE
    measured_shape = (1, 8, 8)

    def apply(self, x: Tensor) -> Tensor:
        return x**2


def test_a_task_of_unbounded_data_is_measured_in_own_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Masking(torch.ones(1, 8, 8, dtype=torch.bool))
    x = torch.rand(2, *SHAPE, generator=GENERATOR)
    linear = Task(name="all", operator=operator, values=50 * x.flatten(1), inputs=50 * x, truth=50 * x, noise=5.0)
    monkeypatch.setattr(tasks_from_files, "_tasks", {})
    register_task("all")(lambda path, shape: linear)
    task = Tasks(operator="all", input=tmp_path).build(FIFTY, tmp_path)
    assert task.noise == 0.1
    for part in (task.values.view(2, *SHAPE), task.inputs, task.truth):
        torch.testing.assert_close(part, x)
    given = Tasks(operator="all", input=tmp_path, noise=20.0).build(FIFTY, tmp_path)
    assert given.noise == 0.4
    curved = Task(name="curved", operator=Squared(), values=torch.ones(1, 1, 8, 8))
    register_task("curved")(lambda path, shape: curved)
    with pytest.raises(NcsnxError, match="Squared is not linear"):
        Tasks(operator="curved", input=tmp_path).build(FIFTY, tmp_path)
    bounded = Tasks(operator="curved", input=tmp_path).build(unit_space(*SHAPE), tmp_path)
    assert bounded.operator is curved.operator


class _Broken(LinearMap):
    """Twice the image, with an adjoint that is none."""

    shape = (1, 8, 8)
    measured_shape = (1, 8, 8)

    def apply(self, x: Tensor) -> Tensor:
        return 2 * x

    def adjoint(self, y: Tensor) -> Tensor:
        return y


class _Failing(Masking):
    """An operator whose function raises."""

    def coefficients(self, x: Tensor) -> Tensor:
        return super().coefficients(x) @ torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Task(name="t", operator=_Failing(HALF), values=VALUES), r"_Failing\.apply fails on images"),
        (Task(name="t", operator=_Broken(), values=torch.ones(1, 1, 8, 8)), "adjoint is not the adjoint of apply"),
        (
            Task(
                name="t",
                operator=Sense(simulated_maps((8, 8), 3), torch.ones(8, 8), channels=1),
                values=torch.ones(1, 3, 8, 8),
            ),
            "expected measurements that are complex",
        ),
    ],
)
def test_a_measurement_is_checked_before_anything_is_drawn(trained: Path, task: Task, told: str) -> None:
    run, quick = trained / "runs/digits", ConsistentAnnealed(steps=4)
    with pytest.raises(NcsnxError, match=told):
        ncsnx.draw(ncsnx.load(run), n=1, task=task, sampler=quick)
    with pytest.raises(NcsnxError, match=told):
        ncsnx.restore(run, task=task, sampler=quick, progress=False)
