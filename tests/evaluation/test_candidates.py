"""Candidates of a sweep."""

import shutil
from pathlib import Path

import pytest

from ncsnx.evaluation.checkpoint_sweep import choose
from ncsnx.evaluation.held_out_sweep import HeldOutSweep
from ncsnx.features.real_images import DataSource
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.selection import select
from ncsnx.runtime import Runtime
from ncsnx.work import SILENT


def test_a_checkpoint_that_retention_removes_during_a_sweep_is_left_out_like_an_unsound_one(workplace: Path) -> None:
    run = Run(workplace / "runs" / "digits")
    source, runtime = DataSource.of_run(run, workplace), Runtime.choose(threads=1)
    sweep = HeldOutSweep(run=run, experiment=run.experiment(), source=source, runtime=runtime)
    (candidate,), _ = choose(run, select(run, "8"), SILENT)
    assert sweep.load(candidate)[0].step == 8
    shutil.rmtree(run.checkpoints / "step-00000008")
    with pytest.raises(UnsoundError, match="removed in the meantime"):
        sweep.load(candidate)
