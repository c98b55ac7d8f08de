"""Conformance tests of operators: one of each class of ncsnx, and those of all registered tasks."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ncsnx import inverse
from ncsnx.errors import NcsnxError
from ncsnx.inverse import LinearOperator, Task, register_task, tasks_from_files
from ncsnx.inverse.rules.exact import ExactRule
from ncsnx.inverse.tasks_from_files import registered_tasks
from tests.inverse.examples import OPERATORS, pictures

TASKS = sorted(registered_tasks())
SHAPES = ((1, 8, 8), (3, 16, 16), (2, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64))
"""Shapes of images; each task is tested with the first that it accepts."""
WRONG = 0.01
"""Relative error above which a measurement has a wrong scale, order or image; 8-bit rounding errors are smaller."""


def measured(tag: str, folder: Path) -> tuple[Tensor, Task]:
    """Images, and the task made from the file of their measurement."""
    found = registered_tasks()[tag]
    assert found.example is not None, f"@register_task({tag!r}, example=…) says how its file is written"
    for shape in SHAPES:
        images = torch.rand(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        try:
            found.example(images, folder / "example")
            return images, found.make(folder / "example", shape)
        except NcsnxError:
            continue
    raise AssertionError(f"the task {tag!r} takes no images of {SHAPES}")


@pytest.fixture(params=[*OPERATORS, *TASKS])
def operator(request: pytest.FixtureRequest, tmp_path: Path) -> LinearOperator:
    """An operator as samplers use it."""
    if request.param in OPERATORS:
        return OPERATORS[request.param]
    return measured(request.param, tmp_path)[1].operator


@pytest.fixture(params=TASKS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Tensor, Task]:
    return measured(request.param, tmp_path)


def coefficients(operator: LinearOperator, count: int = 2) -> Tensor:
    rank = len(operator.singular_values)
    return torch.randn(count, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_every_class_of_ncsnx_is_among_those_that_are_tried() -> None:
    def below(kind: type) -> Iterator[type]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    public = {kind for kind in below(LinearOperator) if getattr(inverse, kind.__name__, None) is kind}
    assert {kind for kind in public if not inspect.isabstract(kind)} <= {type(one) for one in OPERATORS.values()}


def test_its_singular_values_are_above_zero_and_as_many_as_its_coefficients(operator: LinearOperator) -> None:
    operator.check()
    singular = operator.singular_values
    assert singular.shape == operator.coefficients(pictures(operator)).shape[1:]
    assert bool((singular > 0).all())
    assert 0 < len(singular) <= pictures(operator)[0].numel()


def test_an_image_agrees_with_its_own_measurement_and_its_null_space_stays(operator: LinearOperator) -> None:
    x, other = pictures(operator), pictures(operator).flip(0)
    kept = ExactRule(operator, operator.coefficients(x), lambda step: torch.zeros_like(x))
    torch.testing.assert_close(kept(x, 0.0, 0), x)
    replaced = kept(other, 0.0, 0)
    torch.testing.assert_close(operator.apply(replaced), operator.apply(x))
    torch.testing.assert_close(
        replaced - operator.images(operator.coefficients(replaced)),
        other - operator.images(operator.coefficients(other)),
    )
    torch.testing.assert_close(operator.apply(operator.images(operator.coefficients(x))), operator.apply(x))


def test_it_measures_an_image_alike_in_any_batch_and_in_its_type(operator: LinearOperator) -> None:
    x, c = pictures(operator), coefficients(operator, 3)
    alone = torch.cat([operator.coefficients(image[None]) for image in x])
    torch.testing.assert_close(operator.coefficients(x), alone)
    torch.testing.assert_close(operator.images(c), torch.cat([operator.images(one[None]) for one in c]))
    assert operator.coefficients(x.float()).dtype == operator.images(c.float()).dtype == torch.float32


def test_a_registered_task_reads_from_its_file_what_its_operator_measures(example: tuple[Tensor, Task]) -> None:
    images, task = example
    assert (task.count, *task.operator.shape) == tuple(images.shape)
    expected = task.operator.apply(images)
    found = task.values * task.operator.singular_values.double()
    margin = WRONG * expected.norm() + 5 * task.noise * expected.numel() ** 0.5
    assert float((found - expected).norm()) <= margin


def test_a_tag_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_from_files, "_tasks", {})
    register_task("mine")(lambda file, shape: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="a task 'mine' already exists"):
        register_task("mine")(lambda file, shape: None)  # type: ignore[arg-type, return-value]
