"""`ncsnx sweep`: a run per combination of values, trained as `ncsnx train` does, scored, compared and resumed."""

import csv
import json
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest

from ncsnx.runs import manifest
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from ncsnx.runs.writer_lock import writer_lock
from tests.forked import fork
from tests.training.tiny import CPU, Result, command, files, saved, steps_of, wait_until

SMALL = (
    *("batch_size=8", "schedule.levels=4", "sampler.steps_per_level=1", "snapshots=none"),
    *("steps=2", "log_every=1", "eval_every=2", *CPU, "--no-report"),
)
AXES = ("model.width=4,8", "--seeds", "2")
RUNS = [f"digits-width_{width}-seed_{seed}" for width in (4, 8) for seed in (1234, 1235)]


def sweep(folder: Path, *words: str) -> Result:
    return command("sweep", "digits", *words, *SMALL, folder=folder)


def names(folder: Path) -> list[str]:
    """Entries of the runs folder."""
    return sorted(path.name for path in (folder / "runs").iterdir()) if (folder / "runs").exists() else []


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder with a sweep that was trained and scored, and what the command said."""
    folder = tmp_path_factory.mktemp("swept")
    told = sweep(folder, *AXES, "--loss").done()
    return folder, told


@pytest.fixture(scope="module")
def compared(swept: tuple[Path, Result]) -> dict[str, Any]:
    """The comparison as JSON, of the same command again, which trains and measures nothing."""
    runs = swept[0] / "runs"
    before = {run: files(runs / run) for run in RUNS}
    told = sweep(swept[0], *AXES, "--loss", "--json").done()
    assert "sweep digits: 4 runs, 4 finished\n" in told.err
    assert {run: files(runs / run) for run in RUNS} == before
    found: dict[str, Any] = json.loads(told.out)
    return found


def test_every_combination_has_a_run_beside_the_sweep(swept: tuple[Path, Result]) -> None:
    folder, told = swept
    assert names(folder) == [*RUNS, "digits.sweep"]
    assert [steps_of(folder / "runs" / run) for run in RUNS] == [[2]] * 4
    assert f"1/4 {RUNS[0]}: model.width=4 seed=1234\n" in told.err
    assert told.err.count("training\n") == 4
    listed = command("list", folder=folder)
    assert (listed.code, listed.err) == (0, "")
    assert "digits.sweep" not in listed.out
    assert all(run in listed.out for run in RUNS)
    assert "runs/digits.sweep is not a run" in command("sample", "digits.sweep", folder=folder).err


def test_a_run_is_the_one_that_train_makes(swept: tuple[Path, Result], tmp_path: Path) -> None:
    assert command("train", "digits", "model.width=8", "seed=1235", *SMALL, folder=tmp_path).code == 0
    ours, theirs = saved(swept[0] / "runs" / RUNS[3], 2), saved(tmp_path / "runs" / "digits", 2)
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert ours[name] == theirs[name]
    assert "training" in (swept[0] / "runs" / RUNS[3] / "log.txt").read_text()


def test_settings_are_compared_by_mean_and_spread(swept: tuple[Path, Result], compared: dict[str, Any]) -> None:
    folder, told = swept
    (table,) = compared["tables"]
    settings = table["rows"]
    assert [one["setting"] for one in settings] == [{"model.width": 8}, {"model.width": 4}]
    for setting in settings:
        values = [run["loss"] for run in setting["runs"]]
        assert setting["loss"] == pytest.approx(statistics.fmean(values))
        assert setting["loss_deviation"] == pytest.approx(statistics.stdev(values))
        assert setting["loss_runs"] == 2
    assert settings[0]["loss"] < settings[1]["loss"]
    assert "299 held-out images" in table["caption"]
    assert table["plus_minus"] == {"loss": "standard deviation over seeds"}
    head, *rows = told.out.splitlines()
    assert head.split() == ["model.width", "held-out", "loss"]
    assert [row.split()[0] for row in rows] == ["8", "4"]
    assert rows[0].endswith("best")
    with (folder / "runs/digits.sweep/scores.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == [*RUNS[2:], *RUNS[:2]]
    best = rows[0].removesuffix("best").strip().split("  ")[-1].strip()
    assert f"best: model.width 8, held-out loss {best}\n± standard deviation over seeds\n" in told.err
    assert {"scores.png", "scores.svg"} <= {path.name for path in (folder / "runs/digits.sweep").iterdir()}
    (row,) = json.loads(command("loss", RUNS[0], "--range", "latest", "--json", *CPU, folder=folder).out)["rows"]
    assert row["score"] == settings[1]["runs"][0]["loss"], "the score of `ncsnx loss`"


def test_numbers_of_different_protocols_are_not_ranked_together(tmp_path: Path) -> None:
    """A loss with other weights is another quantity, so there is no best setting among them."""
    told = sweep(tmp_path, "loss.power=1,2", "model.width=4", "--loss", "--json").done()
    assert "best:" not in told.err
    assert "2 protocols, not ranked together: they differ in loss.power" in told.err
    for power, table in zip((1.0, 2.0), json.loads(told.out)["tables"], strict=True):
        assert [row["setting"]["loss.power"] for row in table["rows"]] == [power]
        assert f"weighted by σ^{power:g}" in table["caption"]
    places = {path.name for path in (tmp_path / "runs/digits.sweep").iterdir()}
    assert places >= {"scores.csv", "scores.png", "scores-2.png"}
    plain = sweep(tmp_path, "loss.power=1,2", "model.width=4")
    assert "not ranked together" in plain.err, "neither are the losses of the training's last evaluation"


def test_a_dry_run_says_which_runs_are_missing(swept: tuple[Path, Result]) -> None:
    told = sweep(swept[0], "model.width=4,8", "--seeds", "3", "--dry-run", "--json")
    steps = [row["step"] for row in json.loads(told.out)["tables"][0]["rows"]]
    assert steps == [2, 2, 0, 2, 2, 0]


@pytest.mark.slow
def test_images_of_the_runs_are_compared_by_the_same_features(swept: tuple[Path, Result]) -> None:
    features = ("--n", "40", "features.steps=30", "features.width=8")
    told = sweep(swept[0], *AXES, "--fid", *features, "--loss", "--json").done()
    found = json.loads(told.out)
    (table,) = found["tables"]
    assert table["metric"].startswith("FD (digits classifier ")
    assert "few images" in told.err or "40 images" in told.err
    scores = [setting["fid"] for setting in table["rows"]]
    assert scores == sorted(scores)
    again = command("fid", RUNS[0], *features, "--range", "latest", "--json", *CPU, folder=swept[0])
    runs = {run["run"]: run["fid"] for setting in table["rows"] for run in setting["runs"]}
    assert json.loads(again.out)["rows"][0]["score"] == runs[RUNS[0]]


def test_a_run_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    told = sweep(tmp_path, "optimizer.lr=1e30,1e-3", "model.width=4")
    assert told.code == 1
    assert "warning: digits-lr_1e_30 failed: the loss is not finite at step 2" in told.err
    assert told.err.splitlines()[-1].startswith("error: 1 run of the sweep failed: digits-lr_1e_30 (the loss is not")
    assert steps_of(tmp_path / "runs/digits-lr_0.001") == [2]
    assert [row.split()[0] for row in told.out.splitlines()[1:]] == ["0.001", "1e+30"]
    assert told.out.splitlines()[-1].endswith("0 of 1 run finished")


def test_a_run_that_another_process_writes_is_left_out(tmp_path: Path) -> None:
    begun = [*(word for word in SMALL if word != "steps=2"), "steps=1", "--run", "held-width_4"]
    assert command("train", "digits", "model.width=4", *begun, folder=tmp_path).code == 0
    with writer_lock(Run(tmp_path / "runs/held-width_4")):
        told = sweep(tmp_path, "model.width=4,8", "--name", "held")
    assert told.code == 0, told.err
    assert "held-width_4 is left out: it is being written by process " in told.err
    assert steps_of(tmp_path / "runs/held-width_8") == [2]


def test_a_run_that_was_trained_further_is_compared_at_the_steps_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sweep(tmp_path, "model.width=4,8", "--json").done()
    command("train", "runs/digits-width_4", "steps=9", *CPU, "--no-report", folder=tmp_path).done()
    read, parts = manifest.read_verified, list[str]()
    monkeypatch.setattr(manifest, "read_verified", lambda *given: parts.append("read") or read(*given))
    monkeypatch.setattr(manifest, "verify", lambda *given: parts.append("hashed"))
    after = sweep(tmp_path, "model.width=4,8", "--json").done()
    first, second = ([row["held_out"] for row in json.loads(one.out)["tables"][0]["rows"]] for one in (before, after))
    assert first == second
    assert parts == [], "a finished sweep reads no weights"
    losses = sweep(tmp_path, "model.width=4,8", "--loss", "--json").done()
    assert {run["step"] for row in json.loads(losses.out)["tables"][0]["rows"] for run in row["runs"]} == {2, 9}
    (series,) = Ledger.read(Run(tmp_path / "runs/digits-width_4")).series("loss")
    (entry,) = series.entries
    assert entry.step == 2


def test_a_stopped_sweep_resumes_in_the_run_that_it_was_in(tmp_path: Path) -> None:
    words = [word for word in SMALL if word != "steps=2"]
    words = ["sweep", "digits", "optimizer.lr=1e-3,1e-4", "model.width=4", "steps=400", *words]
    with fork(*words, folder=tmp_path) as process:
        metrics = tmp_path / "runs/digits-lr_0.001/metrics.jsonl"
        wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") > 3, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err.endswith("stopped by SIGTERM; the same command resumes the sweep at digits-lr_0.001\n")
    (step,) = steps_of(tmp_path / "runs/digits-lr_0.001")
    assert not (tmp_path / "runs/digits-lr_0.0001").exists()
    words[words.index("steps=400")] = f"steps={step + 1}"
    command(*words, folder=tmp_path).done()
    assert steps_of(tmp_path / "runs/digits-lr_0.001") == [step, step + 1]
    assert steps_of(tmp_path / "runs/digits-lr_0.0001") == [step + 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model.width=4,8", "optimizer.lr=1,2,3", "--zip"), "--zip takes one value of each field at a time"),
        (("model.width=4,8", "--name", "a b"), "'a b' cannot name a sweep"),
        (("model.width=4,8", "features.steps=9"), "features.steps is for the score"),
        (("model.width=4,8", "--fid", "--reference", "none"), "there is no folder or zip 'none' for the reference"),
        (("model.width=4,8", "--device", "cuda:63"), "--device cuda:63: is not on this machine"),
        (("model.width=4,8", "precision=fp32,tf32"), "precision=tf32 runs on CUDA only"),
        (("data=arrays", "data.path=a.npy,b.npy", "data.image_size=8", "data.channels=1"), "a.npy"),
    ],
)
def test_a_bad_call_is_one_line_and_leaves_nothing(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    given = [word for word in SMALL if not (word in CPU and "--device" in words)]
    told = command("sweep", "digits", *words, *given, folder=tmp_path)
    assert told.code in (1, 2)
    assert said in told.err
    assert sum(line.startswith("error: ") for line in told.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_experiment_is_refused(tmp_path: Path) -> None:
    assert command("train", "digits", "model.width=8", *SMALL, "--run", "digits-width_4", folder=tmp_path).code == 0
    told = sweep(tmp_path, "model.width=4,8")
    assert told.code == 2
    assert "runs/digits-width_4 exists and belongs to another experiment" in told.err
    assert names(tmp_path) == ["digits-width_4"]
