"""Tasks from the files and packages that were chosen."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ncsnx.commands.tasks import Tasks
from ncsnx.errors import NcsnxError
from ncsnx.inverse import Masking, MeasurementMap, Task, register_task, tasks_from_files
from ncsnx.inverse.values import ValueRange

SHAPE = (1, 8, 8)
FIFTY = ValueRange(high=50.0, is_bounded=False)


class Squared(MeasurementMap):
    shape = SHAPE
    measured_shape = (1, 8, 8)

    def apply(self, x: Tensor) -> Tensor:
        return x**2


def test_a_task_of_unbounded_data_is_measured_in_own_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Masking(torch.ones(1, 8, 8, dtype=torch.bool))
    linear = Task(name="all", operator=operator, values=torch.full((1, 64), 100.0), noise=5.0)
    monkeypatch.setattr(tasks_from_files, "_tasks", {})
    register_task("all")(lambda path, shape: linear)
    task = Tasks(operator="all", input=tmp_path).build(FIFTY, SHAPE, tmp_path)
    assert task.noise == 0.1
    assert torch.equal(task.values, torch.full((1, 64), 2.0))
    given = Tasks(operator="all", input=tmp_path, noise=20.0).build(FIFTY, SHAPE, tmp_path)
    assert given.noise == 0.4
    curved = Task(name="curved", operator=Squared(), values=torch.ones(1, 1, 8, 8))
    register_task("curved")(lambda path, shape: curved)
    with pytest.raises(NcsnxError, match="Squared is not linear"):
        Tasks(operator="curved", input=tmp_path).build(FIFTY, SHAPE, tmp_path)
