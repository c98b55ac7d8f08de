"""Conformance of every registered metric, built in or from a package."""

import math
import re
import statistics

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.errors import NcsnxError
from ncsnx.metrics.metric import FeatureSets, Metric, Quantity, all_metrics, measured_by, metric

N, M, D, CLASSES = 120, 200, 6, 5
TIMES = 60
"""Simulated models; the standard deviation over them is known to 1/√(2 · 59), 9 %."""


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sets(seed: int = 0, shift: float = 0.4) -> FeatureSets:
    """Features of a model with an error of `shift` in each feature, and of a fixed reference."""
    real = normal(999, M, D)
    features = normal(seed, N, D) + shift
    logits = 2 * torch.cat([normal(seed, N, CLASSES - 1), torch.full((N, 1), shift)], dim=1)
    return FeatureSets(
        features=features,
        logits=logits,
        classes=torch.arange(N) % (CLASSES - 1),  # an error of the model makes images of the last class
        mean=real.mean(dim=0),
        covariance=real.T.cov(),
        sample=real,
        seed=0,
    )


@pytest.fixture(params=all_metrics(), ids=lambda one: one.tag)
def one(request: pytest.FixtureRequest) -> Metric:
    found = request.param
    assert isinstance(found, Metric)
    return found


def numbers(one: Metric, of: FeatureSets) -> list[float]:
    found = one.measure(of)
    return [float(found[quantity.key] or 0.0) for quantity in one.quantities]


def test_it_gives_the_numbers_that_it_declares_and_the_same_ones_again(one: Metric) -> None:
    assert one.measure(sets()) == one.measure(sets())
    assert one.is_in(measured_by([one], sets()))


def test_turned_features_give_the_same_numbers(one: Metric) -> None:
    turn, _ = torch.linalg.qr(normal(5, D, D))
    given = sets()
    assert given.sample is not None
    turned = attrs.evolve(
        given,
        features=given.features @ turn,
        mean=given.mean @ turn,
        covariance=turn.T @ given.covariance @ turn,
        sample=given.sample @ turn,
    )
    assert numbers(one, turned) == pytest.approx(numbers(one, given), rel=1e-9, abs=1e-9)


def test_a_model_that_is_further_off_is_judged_worse(one: Metric) -> None:
    near, far = numbers(one, sets(shift=0.0)), numbers(one, sets(shift=3.0))
    for quantity, before, after in zip(one.quantities, near, far, strict=True):
        assert (after > before) == (quantity.better == "lower"), quantity.key


@pytest.mark.slow
def test_a_standard_error_is_the_spread_over_other_images_of_the_model_or_somewhat_more(one: Metric) -> None:
    found = [one.measure(sets(seed)) for seed in range(TIMES)]
    for quantity in one.quantities:
        if quantity.error is not None and quantity.plus_minus == "standard error":
            true = statistics.stdev(float(row[quantity.key] or 0.0) for row in found)
            told = math.sqrt(statistics.mean(float(row[quantity.error] or 0.0) ** 2 for row in found))
            # three standard errors of the true spread below it; conservative errors are up to twice as large
            assert 0.75 < told / true < 2.2, quantity.key


@pytest.mark.slow
def test_what_a_perfect_model_has_is_as_declared(one: Metric) -> None:
    found = [one.measure(attrs.evolve(sets(seed, 0.0), sample=normal(2_000 + seed, M, D))) for seed in range(TIMES)]
    for quantity in one.quantities:
        if quantity.perfect is not None:
            values = [float(row[quantity.key] or 0.0) for row in found]
            margin = 4 * statistics.stdev(values) / math.sqrt(TIMES)
            assert statistics.mean(values) == pytest.approx(quantity.perfect, abs=margin), quantity.key


def test_features_that_are_not_finite_are_refused(one: Metric) -> None:
    broken = torch.full((N, D), math.nan, dtype=torch.float64)
    with pytest.raises(NcsnxError):
        one.measure(attrs.evolve(sets(), features=broken, logits=broken))


def test_a_metric_that_gives_other_numbers_than_it_declares_is_told_so() -> None:
    def wrong(of: FeatureSets) -> dict[str, float | None]:
        return {"another": 1.0}

    declared = Metric("odd", Quantity("odd"))
    declared.compute = wrong
    with pytest.raises(NcsnxError, match="the metric odd gave another; expected odd"):
        declared.measure(sets())
    declared.compute = lambda of: {"odd": math.nan}
    with pytest.raises(NcsnxError, match="odd = nan; expected a finite number"):
        declared.measure(sets())


def test_names_that_are_taken_are_refused() -> None:
    tag, key = all_metrics()[0].tag, all_metrics()[0].quantities[0].key
    with pytest.raises(ValueError, match="already exists"):
        metric(tag, Quantity("unheard"))
    for taken in (key, "step", "made"):
        with pytest.raises(ValueError, match=f"cannot give '{taken}'"):
            metric("unheard-of", Quantity(taken))
    with pytest.raises(ValueError, match="cannot give 'new'"):
        metric("unheard-of", Quantity("new"), Quantity("newer", error="new"))


def test_what_it_needs_is_asked_before_anything_is_measured() -> None:
    for one in all_metrics():
        assert one.refusal(features="X", sample=100, has_logits=True, has_classes=True) is None
        if "sample" in one.needs:
            few = one.refusal(features="X", sample=one.least_sample - 1, has_logits=True)
            assert few is not None
            assert re.search(r"needs \d+ real images?, and the reference has", few)
            assert one.refusal(features="X", sample=None, has_logits=True) is not None
        if "logits" in one.needs:
            refusal = one.refusal(features="X", sample=100, has_logits=False, has_classes=True)
            assert refusal == f"{one.tag} takes logits, which X does not give"
        if "classes" in one.needs:
            assert one.refusal(features="X", sample=100, has_logits=True) is not None
