"""Images of a measurement alone, and the checks before one is drawn from."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import ncsnx
from ncsnx.config import ConsistentAnnealed
from ncsnx.errors import NcsnxError
from ncsnx.inverse import LinearMap, Masking, Sense, Task, simulated_maps
from ncsnx.sampling.score_model import ScoreModel

QUICK = ConsistentAnnealed(steps=4)


@pytest.fixture
def model(trained: Path) -> ScoreModel:
    return ncsnx.load(trained / "runs/digits")


@pytest.fixture
def digits() -> Tensor:
    return torch.from_numpy(load_digits().images[:2] / 16).float()[:, None]


class _Broken(LinearMap):
    """Twice the image, with an adjoint that is none."""

    shape = (1, 8, 8)
    measured_shape = (1, 8, 8)

    def apply(self, x: Tensor) -> Tensor:
        return 2 * x

    def adjoint(self, y: Tensor) -> Tensor:
        return y


@pytest.mark.parametrize(
    ("task", "told"),
    [
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
def test_a_measurement_is_checked_before_anything_is_drawn(model: ScoreModel, task: Task, told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        ncsnx.draw(model, n=1, task=task, sampler=QUICK)
    with pytest.raises(NcsnxError, match=told):
        ncsnx.restore(model.source, task=task, sampler=QUICK, progress=False)


def test_a_task_in_units_of_the_scale_has_all_its_parts_in_them(digits: Tensor) -> None:
    operator = Masking(torch.ones(1, 8, 8, dtype=torch.bool))
    whole = Task(
        name="t", operator=operator, values=50 * digits.flatten(1), inputs=50 * digits, truth=50 * digits, noise=5.0
    )
    found = whole.divided(50.0)
    assert found.noise == 0.1
    for part in (found.values.view(2, 1, 8, 8), found.inputs, found.truth):
        torch.testing.assert_close(part, digits)
    assert whole.divided(1.0) is whole
