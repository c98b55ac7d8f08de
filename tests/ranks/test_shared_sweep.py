"""A parameter sweep in several ranks: each trains whole runs, to the bits of one process."""

import os
import signal
from pathlib import Path

import pytest

from tests.cli.test_sweep import AXES, RUNS, SMALL, sweep
from tests.ranks.launched import finish, launch, messages, ranks_of, result_of, wait_until
from tests.training.tiny import files, saved, steps_of

pytestmark = pytest.mark.ranks
WEIGHTS = ("model.safetensors", "ema.safetensors", "optimizer.safetensors")


def test_ranks_train_and_score_what_one_process_does(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "shared").mkdir()
    alone = sweep(tmp_path / "alone", *AXES, "--loss")
    shared = finish("sweep", "digits", *AXES, "--loss", *SMALL, folder=tmp_path / "shared")
    assert (shared.code, shared.out) == (0, alone.out), shared.err
    assert "sweep digits: 4 runs, 2 of them for this rank" in shared.err
    for run in RUNS:
        ours, theirs = (saved(tmp_path / where / "runs" / run, 2) for where in ("alone", "shared"))
        assert {name: ours[name] for name in WEIGHTS} == {name: theirs[name] for name in WEIGHTS}
        assert "finished at step 2/2" in (tmp_path / "shared/runs" / run / "log.txt").read_text()
        assert not (tmp_path / "shared/runs" / run / "ranks").exists()
    tables = [files(tmp_path / where / "runs/digits.sweep")["scores.csv"] for where in ("alone", "shared")]
    assert tables[0] == tables[1]


def test_a_run_that_fails_on_one_rank_leaves_the_others_to_finish(tmp_path: Path) -> None:
    words = ("optimizer.lr=1e-3,1e30,1e-4,1e-5", "model.width=4")
    told = finish("sweep", "digits", *words, *SMALL, folder=tmp_path)
    assert told.code != 0
    assert messages(told)[-1].startswith("error: 1 run of the sweep failed: digits-lr_1e_30 (the loss is not finite")
    assert [steps_of(tmp_path / f"runs/digits-lr_{lr}") for lr in ("0.001", "0.0001", "1e-05")] == [[2]] * 3


def test_a_signal_to_the_launcher_writes_a_checkpoint_of_each_ranks_run(tmp_path: Path) -> None:
    small = [word for word in SMALL if word != "steps=2"]
    words = ("sweep", "digits", "optimizer.lr=1e-3,1e-4", "model.width=4", "steps=100000", *small)
    process = launch(*words, folder=tmp_path)
    runs = [tmp_path / "runs" / name for name in ("digits-lr_0.001", "digits-lr_0.0001")]
    wait_until(lambda: all((run / "metrics.jsonl").exists() for run in runs), process)
    assert len(ranks_of(process)) == 2
    os.kill(process.pid, signal.SIGTERM)
    assert result_of(process).code != 0
    assert [len(steps_of(run)) for run in runs] == [1, 1]
