"""Broken images, the order of checkpoints, and which sampler is recommended."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncsnx.config import ConsistentAnnealed, DPMSolverPP, Heun
from ncsnx.config.codec import unstructure
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.agreement import rank_agreement
from ncsnx.evaluation.comparison import recommended
from ncsnx.evaluation.roughness import is_broken, roughest, roughness
from ncsnx.evaluation.trials import Trials


def test_roughness_is_the_mean_square_of_neighbours_differences() -> None:
    flat = torch.full((1, 1, 4, 4), 200, dtype=torch.uint8)
    stripes = torch.tensor([0, 255, 0, 255], dtype=torch.uint8).expand(1, 1, 4, 4)
    board = (torch.arange(4).view(4, 1) + torch.arange(4)).remainder(2).mul(255).to(torch.uint8).view(1, 1, 4, 4)
    assert roughness(torch.cat([flat, stripes, board])).tolist() == [0.0, 1.0, 2.0]
    assert is_broken(torch.cat([flat, stripes, board]), 1.0).tolist() == [False, False, True]


def test_a_little_noise_that_is_left_breaks_smooth_images(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 16).expand(50, 1, 16, 16)
    noisy = ramp + 0.1 * torch.randn(ramp.shape, generator=generator)
    real, drawn = ((255 * x.clamp(0, 1)).to(torch.uint8) for x in (ramp, noisy))

    opened: list[int] = []

    class Real:
        title, facts = "ramps", {}

        def __len__(self) -> int:
            return len(real)

        def batches(self, size: int, check_stop: Any) -> Any:
            opened.append(size)
            yield from real.split(size)  # type: ignore[no-untyped-call]

    limit = roughest(Real(), tmp_path)
    opened.clear()
    assert roughest(Real(), tmp_path) == limit
    assert not opened, "it was looked for once"
    assert not is_broken(real, limit).any()
    assert is_broken(drawn, limit).all()


def rows(*scores: float) -> list[dict[str, Any]]:
    return [{"step": step, "weights_sha256": "a" * 64, "score": score} for step, score in enumerate(scores)]


def test_orders_that_agree_correlate_and_opposite_ones_do_the_opposite() -> None:
    for others, correlation in (((10, 20, 30, 40), 1.0), ((4, 3, 2, 1), -1.0), ((1, 1, 1, 1), 0.0)):
        found = rank_agreement(rows(1, 2, 3, 4), rows(*others))
        assert found is not None
        assert (found.correlation, found.checkpoints) == (pytest.approx(correlation), 4)
    assert rank_agreement(rows(1, 2), rows(1, 2)) is None
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 6, (2, 20))
    found = rank_agreement(rows(*first), rows(*second))
    stats = pytest.importorskip("scipy.stats")
    assert found is not None
    assert found.correlation == pytest.approx(stats.spearmanr(first, second).statistic)


def row(evaluations: int, distance: float | None, broken: float, seeds: int = 3) -> dict[str, Any]:
    return {"evaluations": evaluations, "distance": distance, "broken": broken, "seeds": seeds}


def test_the_nearest_of_those_that_take_a_twelfth_and_break_no_more_is_recommended() -> None:
    own = row(120, 14.0, 0.001)
    good, broken, slow = ConsistentAnnealed(), DPMSolverPP(), Heun()
    found = recommended(
        own, [(slow, row(19, 5.0, 0)), (broken, row(10, 6.0, 0.2)), (good, row(10, 9.0, 0.001))], 7, {"n": 100}
    )
    assert found is not None
    assert (found.sampler, found.step, found.own, found.images) == (good, 7, own, 300)
    for others in ([(slow, row(10, 5.0, 0.3))], [(slow, row(19, 5.0, 0))], [(broken, row(6, None, 1.0))]):
        assert recommended(own, others, 7, {}) is None
    assert recommended(own, [(good, row(10, 1.0, 0, seeds=1))], 7, {}) is None, "measured with fewer seeds"
    diverged = {**row(0, None, 1.0), "evaluations": None}
    assert recommended(own, [(slow, diverged)], 7, {}) is None
    assert recommended(diverged, [(good, row(10, 9.0, 0.001))], 7, {}) is None, "a twelfth of what?"
    assert recommended(own, [(good, {**row(0, 9.0, 0.001), "evaluations": 9.5})], 7, {}) is not None, "a mean"


@pytest.mark.parametrize(
    "changes",
    [
        {"distance": -2.5},
        {"distance": "near"},
        {"broken": -5},
        {"broken": 2},
        {"broken": None},
        {"seconds": -1},
        {"evaluations": 0},
        {"evaluations": -1},
        {"evaluations": None},
        {"seconds": None},
        {"distance": None, "evaluations": "many"},
        {"distance": None, "seconds": -1},
        {"seed": True},
        {"seed": -1},
        {"seed": 10**300},
        {"seed": "0"},
        {"sampler": {"type": "os.system"}},
        {"sampler": None},
        {"sampler": {"type": "cas", "grid": {"type": "karras", "rho": 1e300}}},
    ],
)
def test_a_line_that_is_no_trial_is_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    known = ConsistentAnnealed(steps=7)
    sound = {"sampler": unstructure(known), "seed": 0, "distance": 3.0, "broken": 0.0, "seconds": 0.1, "evaluations": 7}
    path = tmp_path / "trials.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ({**sound, **changes}, {}, sound)))
    trials = Trials.read(path)
    assert trials.samplers(1) == [known]
    assert trials.samplers(0) == []
    assert trials.find(known, 0) == sound
    # a field that a later version adds has its default in what was measured before
    older = {**sound, "sampler": {key: value for key, value in unstructure(known).items() if key != "order"}}
    path.write_text(json.dumps(older) + "\n")
    assert Trials.read(path).find(known, 0) == older


def test_no_real_image_is_an_error(tmp_path: Path) -> None:
    class Nothing:
        title, facts = "nothing", {}

        def __len__(self) -> int:
            return 0

        def batches(self, size: int, check_stop: Any) -> Any:
            return iter(())

    with pytest.raises(NcsnxError, match="nothing: there is no real image"):
        roughest(Nothing(), tmp_path)
