"""Summaries of runs: what they say, how they are selected and ordered, and that damage is left out."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.config import Ema
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Best, Entry, Ledger, Series
from ncsnx.runs.manifest import holds, write_checkpoint
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.summaries import RunSummary, ordered, summaries, summary_of
from tests.runs.kept import SMALL, fid, subject
from tests.spaces import space_of


@pytest.fixture
def three(tmp_path: Path) -> list[RunSummary]:
    """Runs a, b and c of widths 8, 32 and 16; the first two have a loss, and c is an experiment without EMA."""
    for name, width, loss in (("a", 8, 2.0), ("b", 32, 1.0), ("c", 16, None)):
        model = attrs.evolve(SMALL.model, width=width)
        experiment = attrs.evolve(SMALL, model=model, ema=None if loss is None else Ema(rate=0.999))
        run = Run.create(tmp_path / "runs", name, experiment, {}, None, "f" * 64, space_of(experiment.data))
        if loss is not None:
            MetricsLog(run).append({"step": 1, "loss": loss})
    return summaries(tmp_path / "runs")


def names(found: list[RunSummary]) -> str:
    return "".join(one.name for one in found)


def test_a_summary_has_the_last_losses(run: Run) -> None:
    log = MetricsLog(run)
    for step in range(3):
        log.append({"step": step, "loss": 3.0 - step})
    log.append({"step": 2, "held_out": 0.5})
    found = summary_of(run)
    assert (found.loss, found.held_out) == (1.0, 0.5)
    assert (found.state, found.step, found.best) == ("unfinished", 0, None)


def test_the_best_score_comes_with_its_protocol(run: Run) -> None:
    files = {name: name.encode() for name in ("model.safetensors", "ema.safetensors", "state.json")}
    write_checkpoint(run.checkpoints, 2, files.items())
    sha256 = hashlib.sha256(b"ema.safetensors").hexdigest()
    assert holds(run, 2, sha256)
    Ledger.read(run).add(fid(metric="FID"), subject(run, 2, sha256), {"score": 7.5}, {})
    found = summary_of(run)
    assert found.best is not None
    assert (found.best.score, found.best.step, found.protocol) == (7.5, 2, "FID, n=100, ald")
    json.dumps(found.as_json())


@pytest.mark.parametrize("content", [b"[1]\n", b"\xff\n", b'{"loss": "x"}\n', b""])
def test_damaged_logs_are_left_out(run: Run, content: bytes) -> None:
    for path in (run.metrics_path, run.segments_path):
        path.write_bytes(content)
    found = summary_of(run)
    assert found.state == "unfinished"


def test_runs_are_ordered_by_columns_those_without_a_value_last(three: list[RunSummary]) -> None:
    assert names(ordered(three, "loss")) == "bac"
    assert names(ordered(three, "-loss")) == "abc"
    assert names(ordered(three, "-run")) == "cba"
    diverged = [attrs.evolve(three[2], loss=math.nan), *three[:2]]
    assert names(ordered(diverged, "-loss")) == "abc"


def test_scores_of_other_protocols_are_not_ranked_together(three: list[RunSummary]) -> None:

    def best(score: float, images: int = 100, **others: Any) -> Best:
        entry = Entry(protocol="", subject=subject(Run(three[0].path), 1, "a", **others), values={"score": score})
        run = Run(three[0].path)
        return Best(Series(run=run, protocol=fid(images), subject=entry.subject, entries=(entry,)), entry)

    for others in ({"images": 50}, {"sampler": {"type": "heun"}}, {"weights": "raw"}, {"seed": 1}):
        scores = (best(5.0), best(4.0, **others), best(3.0))
        found = [attrs.evolve(one, best=score) for one, score in zip(three, scores, strict=True)]
        assert found[0].protocol != found[1].protocol
        for column, expected in (("score", "ca"), ("-score", "ac")):
            assert expected in names(ordered(found, column))
