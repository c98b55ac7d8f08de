"""Candidates of a sweep."""

import shutil
from pathlib import Path

import pytest

from ncsnx.evaluation.checkpoint_sweep import load_member
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runtime import Runtime


def test_a_checkpoint_that_retention_removes_during_a_sweep_is_left_out_like_an_unsound_one(workplace: Path) -> None:
    run = Run(workplace / "runs" / "digits")
    runtime = Runtime.choose(threads=1)
    assert load_member(run, 8, runtime).step == 8
    shutil.rmtree(run.checkpoints / "step-00000008")
    with pytest.raises(UnsoundError, match="removed in the meantime"):
        load_member(run, 8, runtime)
