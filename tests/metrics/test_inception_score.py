"""The Inception Score: its bounds, its definition in probabilities, and its splits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.metrics.inception_score import inception_score


def certain(*classes: int, of: int = 5, by: float = 1000.0) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), of).float() * by


def by_definition(logits: Tensor) -> float:
    p = logits.double().softmax(dim=1)
    q = p.mean(dim=0)
    return math.exp(sum(float((row * (row / q).log()).sum()) for row in p) / len(p))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(2, 8), st.integers(0, 2**31))
def test_it_is_the_exponential_of_the_mean_divergence(count: int, classes: int, seed: int) -> None:
    logits = torch.randn(count, classes, generator=torch.Generator().manual_seed(seed)) * 3
    found = inception_score(logits, splits=1)["inception_score"]
    assert found == pytest.approx(by_definition(logits), rel=1e-12)
    assert 1 - 1e-12 <= found <= classes


def test_splits_are_scored_in_order_and_none_of_the_images_is_left_out() -> None:
    # 3, 2 and 2 images: scores 3, 2 and 1
    found = inception_score(certain(0, 1, 2, 0, 1, 4, 4), splits=3)
    assert found["inception_score"] == pytest.approx(2, rel=1e-12)
    assert found["inception_score_spread"] == pytest.approx(math.sqrt(2 / 3), rel=1e-12)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(NcsnxError, match="an Inception Score over 10 splits needs at least 10 images, not 9"):
        inception_score(torch.zeros(9, 5))
    with pytest.raises(NcsnxError, match="NaN or infinity in the features of 1 of 3 images"):
        inception_score(certain(0, 1, 2).index_fill(0, torch.tensor([1]), -torch.inf), splits=1)
