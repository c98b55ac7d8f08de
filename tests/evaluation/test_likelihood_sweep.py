"""Likelihood sweeps: refusals, caption and protocol."""

import math
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.config import NCSN, Digits
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.likelihood_sweep import LikelihoodSweep
from ncsnx.evaluation.measurement_requests import LikelihoodRequest
from ncsnx.features.data_source import DataSource
from ncsnx.runs.folder import Run
from ncsnx.runtime import Runtime
from ncsnx.spelling import spelled_by
from tests.config.examples import minimal


def sweep(folder: Path, request: LikelihoodRequest, **changes: Any) -> LikelihoodSweep:
    experiment = attrs.evolve(minimal(), **{"data": Digits()} | changes)
    return LikelihoodSweep(
        run=Run(folder),
        experiment=experiment,
        source=DataSource(data=experiment.data, folder=folder),
        runtime=Runtime.choose(device="cpu"),
        request=request,
    )


def test_a_network_that_is_conditional_on_levels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match="NCSN accepts its trained levels only"):
        sweep(tmp_path, LikelihoodRequest(), model=NCSN(width=8))


def test_more_images_than_are_held_out_are_refused(tmp_path: Path) -> None:
    assert sweep(tmp_path, LikelihoodRequest(n=299)).count == 299
    with pytest.raises(UsageError, match=r"^n 300: the data set has only 299 held-out images"):
        sweep(tmp_path, LikelihoodRequest(n=300))


def test_the_caption_says_which_prior_and_divergence(tmp_path: Path) -> None:
    plain = sweep(tmp_path, LikelihoodRequest(probes=3), data=Digits())
    assert "prior is N(0.5, " in plain.caption()
    assert "Hutchinson's estimator, 3 probes" in plain.caption()
    assert "prior is N(0, " in sweep(tmp_path, LikelihoodRequest(), data=Digits(transform="rescaled")).caption()


def test_every_choice_that_changes_a_number_is_in_the_protocol(tmp_path: Path) -> None:
    requests = [
        LikelihoodRequest(),
        LikelihoodRequest(n=99),
        LikelihoodRequest(seed=1),
        LikelihoodRequest(probes=2),
        LikelihoodRequest(estimator="skilling"),
        LikelihoodRequest(estimator="exact"),
        LikelihoodRequest(tolerance=1e-3),
    ]
    folders = {sweep(tmp_path, request).scores.folder for request in requests}
    assert len(folders) == len(requests)
    assert sweep(tmp_path, LikelihoodRequest(batch_size=7)).scores.folder in folders


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"n": 1}, "^n must be at least 2"),
        ({"seed": 2**32}, "seed must be between 0 and"),
        ({"estimator": "best"}, "estimator must be one of hutchinson, skilling, exact"),
        ({"estimator": "exact", "probes": 3}, "exact takes no probes; leave it out$"),
        ({"probes": 0}, "probes must be between"),
        ({"tolerance": 1e-9}, "tolerance must be between"),
        ({"tolerance": math.nan}, "tolerance must be between"),
        ({"batch_size": 0}, "batch_size must be between"),
    ],
)
def test_what_makes_no_sense_is_a_mistake_of_typing(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        LikelihoodRequest(**changes)


def test_a_parameter_that_is_to_be_left_out_is_named_as_it_is_typed() -> None:
    with (
        spelled_by(lambda name: f"--{name}"),
        pytest.raises(UsageError, match=r"^--estimator exact takes no --probes; leave it out$"),
    ):
        LikelihoodRequest(estimator="exact", probes=3)
