"""`ncsnx.train` does what `ncsnx train` does, says nothing unasked, and ends well when it is stopped."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import ncsnx
from ncsnx.console.python_call import python_call
from ncsnx.errors import Stopped
from ncsnx.jobs.training_job import TrainedRun
from ncsnx.runs.folder import Run, read_origins
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.metrics_log import MetricsLog
from tests.training.tiny import PATIENCE_S, command, overrides, saved, steps_of, training


@pytest.fixture
def interrupts() -> Iterator[Any]:
    """Ctrl-C raises KeyboardInterrupt, as in a program of its own; yields the handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_the_checkpoints_are_those_of_the_command(trained: TrainedRun, tmp_path: Path) -> None:
    typed = command(*training("snapshots=none", "eval_every=12"), folder=tmp_path)

    assert typed.code == 0
    losses = [record["loss"] for record in MetricsLog(trained.run).read() if "loss" in record]
    assert (trained.start_step, trained.step, trained.loss) == (0, 12, losses[-1])
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert saved(trained.run.path, 12)[name] == saved(tmp_path / "runs/digits", 12)[name]
    assert trained.run.source_path.read_bytes() == (tmp_path / "runs/digits/experiment.py").read_bytes()
    ours, theirs = (read_origins(one / "origins.json") for one in (trained.run.path, tmp_path / "runs/digits"))
    assert {path: ours[path].split("/")[-1] for path in ours} == {path: theirs[path].split("/")[-1] for path in theirs}


def test_an_experiment_that_python_made_trains_and_resumes(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    longer = attrs.evolve(run.experiment(), steps=14)
    made = ncsnx.train(longer, runs=run.path.parent, device="cpu", threads=1)
    with pytest.raises(ncsnx.NcsnxError, match=r"batch_size: 16 → 8; start a new run: name='digits-2'"):
        ncsnx.train(attrs.evolve(longer, batch_size=8), runs=run.path.parent, device="cpu", threads=1)

    assert (made.run, made.start_step, made.step) == (run, 12, 14)
    assert read_origins(run.origins_path)["steps"] == "Python"
    assert tuple(capfd.readouterr()) == ("", "")
    assert "finished at step 14/14" in run.log_path.read_text()
    ncsnx.train(run, device="cpu", threads=1, progress=True)
    assert "complete: nothing to train" in capfd.readouterr().err


def test_a_held_out_loss_that_rose_names_the_checkpoint_before(trained: TrainedRun, run: Run) -> None:
    newest, log = checkpoints(run)[-1], MetricsLog(run)
    log.append({"step": 4, "held_out": 1.0})
    log.append({"step": newest, "held_out": 1.04})
    assert "--ckpt latest" in attrs.evolve(trained, run=run).closing()[-1]
    log.append({"step": newest, "held_out": 1.06})

    assert attrs.evolve(trained, run=run).closing()[-2:] == [
        "held-out loss: lowest at step 4 (1.000), 1.060 at the end",
        f"next: ncsnx sample {run.cli_path} --ckpt 4 --n 64",
    ]
    log.append({"step": 3, "held_out": 0.9})
    log.append({"step": newest, "held_out": None})
    assert attrs.evolve(trained, run=run).closing()[-2:] == [
        "held-out loss: lowest at step 3 (0.9000), inf at the end",  # no checkpoint from before is left
        f"next: ncsnx sample {run.cli_path} --ckpt 4 --n 64",
    ]


def test_ctrl_c_raises_keyboard_interrupt_after_a_checkpoint(here: Path, interrupts: Any) -> None:
    run, before = here / "runs" / "digits", signal.getsignal(signal.SIGTERM)
    endless = overrides("snapshots=none", "steps=1000000", "checkpoint_every=500000", "log_every=5")

    def interrupt() -> None:
        limit_s = time.monotonic() + PATIENCE_S
        while not (run / "metrics.jsonl").is_file() and time.monotonic() < limit_s:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ncsnx.train("digits", endless, device="cpu", threads=1)
    thread.join()

    (step,) = steps_of(run)
    assert step > 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (interrupts, before)
    assert "the same command resumes from step" in (run / "log.txt").read_text()
    again = ncsnx.train(run, f"steps={step + 1}", device="cpu", threads=1)
    assert (again.start_step, again.step) == (step, step + 1)


def test_another_signal_reaches_the_handler_of_the_program_once_the_work_has_ended() -> None:
    got: list[int] = []

    def work_that_is_stopped() -> None:
        with python_call(None) as work:
            os.kill(os.getpid(), signal.SIGTERM)
            assert got == []
            work.check_stop()

    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        with pytest.raises(Stopped):
            work_that_is_stopped()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM]


def test_a_thread_that_cannot_handle_signals_trains_too(run: Run) -> None:
    found: list[TrainedRun] = []
    thread = threading.Thread(target=lambda: found.append(ncsnx.train(run, device="cpu", threads=1)))
    thread.start()
    thread.join()

    assert found[0].step == 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"experiment": "digitz"}, "no experiment is named 'digitz'; did you mean digits"),
        ({"experiment": "digits", "workers": "2"}, "^workers must be an int, not '2'"),
        ({"experiment": 5}, "^experiment must be an Experiment, a Run, a path or a name, not 5"),
        ({"experiment": "digits", "name": "a/b"}, r"'a/b' cannot name a run.*name=NAME"),
        ({"experiment": "digits", "device": "abacus"}, "^device abacus: expected auto, cpu"),
        ({"experiment": "digits", "changes": ["steps=80", 3]}, "^a change must be text such as 'steps=50', not 3$"),
    ],
    ids=str,
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(wrong: dict[str, Any], message: str, here: Path) -> None:
    with pytest.raises(ncsnx.NcsnxError, match=message):
        ncsnx.train(**wrong)
    assert list(here.iterdir()) == []
