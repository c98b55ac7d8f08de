"""The page on adding a metric: its code is run."""

import re

import pytest
import torch

from ncsnx.metrics import metric as contract
from ncsnx.metrics.metric import FeatureSets, all_metrics
from tests.cli.command import REPOSITORY


def test_the_metric_of_the_page_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "_metrics", dict(contract._metrics))
    page = (REPOSITORY / "docs/adding-a-metric.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "mean_shift.py", "exec"), {})
    (found,) = [one for one in all_metrics() if one.tag == "mean-shift"]
    sets = FeatureSets(
        features=torch.tensor([[0.0, 2.0], [2.0, 4.0]]),
        logits=None,
        mean=torch.zeros(2, dtype=torch.float64),
        covariance=torch.eye(2, dtype=torch.float64),
        sample=None,
        seed=0,
    )
    assert found.measure(sets) == {"mean_shift": 10.0}
