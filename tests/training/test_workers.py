"""Data workers leave signals to their parent process."""

import os
import signal
from pathlib import Path

from tests.training.tiny import start, steps_of, training, wait_until

FOR_EVER = ("steps=100k", "checkpoint_every=100k", "log_every=1")


def test_a_signal_to_the_whole_group_of_a_run_with_workers_ends_it_with_a_checkpoint(tmp_path: Path) -> None:
    metrics = tmp_path / "runs/digits/metrics.jsonl"

    with start(*training(*FOR_EVER), "--workers", "2", folder=tmp_path, own_group=True) as process:
        wait_until(metrics.exists, process)
        os.killpg(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGTERM, err
    assert "Traceback" not in err
    assert len(steps_of(tmp_path / "runs/digits")) == 1
