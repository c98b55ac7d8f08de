"""Likelihood sweeps: refusals, caption and protocol."""

import math
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.config import NCSN, Digits
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.likelihood_sweep import LikelihoodSweep
from ncsnx.features.real_images import DataSource
from ncsnx.runs.folder import Run
from ncsnx.runtime import Runtime
from tests.config.examples import minimal


def sweep(folder: Path, request: dict[str, Any] | None = None, **changes: Any) -> LikelihoodSweep:
    experiment = attrs.evolve(minimal(), **{"data": Digits()} | changes)
    return LikelihoodSweep(
        run=Run(folder),
        experiment=experiment,
        source=DataSource(data=experiment.data, folder=folder),
        runtime=Runtime.choose(device="cpu"),
        **(request or {}),
    )


def test_a_network_that_is_conditional_on_levels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match="NCSN accepts its trained levels only"):
        sweep(tmp_path, {}, model=NCSN(width=8))


def test_more_images_than_are_held_out_are_refused(tmp_path: Path) -> None:
    assert sweep(tmp_path, {"n": 299}).count == 299
    with pytest.raises(UsageError, match=r"^n 300: expected 2 to the number of held-out images, which is 299"):
        sweep(tmp_path, {"n": 300})


def test_every_choice_that_changes_a_number_is_in_the_protocol(tmp_path: Path) -> None:
    requests = [{}, {"n": 99}, {"seed": 1}, {"vectors": 2}, {"estimator": "exact"}, {"tolerance": 1e-3}]
    folders = {sweep(tmp_path, request).scores.folder for request in requests}
    assert len(folders) == len(requests)
    assert sweep(tmp_path, {"batch_size": 7}).scores.folder in folders


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"estimator": "exact", "vectors": 3}, "exact takes no probes; leave it out$"),
        ({"tolerance": 1e-9}, "tolerance must be between"),
        ({"tolerance": math.nan}, "tolerance must be between"),
    ],
)
def test_what_makes_no_sense_is_a_mistake_of_typing(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=expected):
        sweep(tmp_path, changes)
