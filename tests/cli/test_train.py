"""`ncsnx train`: what a run holds, resuming, changes, other identities, and trackers."""

import json
import math
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from ncsnx import draw as sample
from ncsnx.commands.train import Train
from ncsnx.config import CosineDecay, Experiment
from ncsnx.images import grid
from ncsnx.jobs import train_run
from ncsnx.jobs.training_job import TrainingJob
from ncsnx.planning.timing import Timing
from ncsnx.quantities import percent
from ncsnx.runs.folder import Run, read_origins
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.segments import read_segments
from ncsnx.sampling.loading import load as load_model
from ncsnx.tracking.tracker import RegisteredTracker
from ncsnx.training import agreed_stop
from tests.cli.drawing import error
from tests.config.examples import write_file
from tests.data.miniature import FOLDER, write_cifar10
from tests.runs.kept import SMALL
from tests.training.tiny import (
    CPU,
    command,
    damage,
    events,
    files,
    overrides,
    saved,
    steps_of,
    training,
    wait_for_the_next_second,
)


def run_in(workplace: Path) -> Path:
    return workplace / "runs/digits"


def checkpoint_folder(run: Path, step: int) -> Path:
    return run / f"checkpoints/step-{step:08d}"


def test_a_run_holds_what_explains_it(trained: Path) -> None:
    run = run_in(trained)
    config = json.loads((run / "config.json").read_text())
    assert (config["experiment"]["steps"], config["experiment"]["model"]["width"]) == (12, 4)
    assert len(config["data_fingerprint"]) == 64
    origins = json.loads((run / "origins.json").read_text())
    assert "command line" in origins["steps"]
    assert "digits.py" in origins["seed"]
    assert "register(" in (run / "experiment.py").read_text()
    (segment,) = read_segments(Run(run))
    assert (segment.from_step, segment.changes) == (0, {})
    assert segment.runtime["threads"] == 1
    assert "finished at step 12/12" in (run / "log.txt").read_text()
    files = "config.json experiment.py log.txt metrics.jsonl origins.json report.html segments.jsonl"
    expected = {*files.split(), "checkpoints", "snapshots", "tensorboard"}
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == expected


def test_every_checkpoint_has_the_grid_of_the_experiments_own_samples(trained: Path) -> None:
    run = run_in(trained)
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == [
        f"step-{step:08d}.png" for step in (4, 8, 12)
    ]
    images = sample(load_model(run, 8), n=4, seed=1234)
    expected = grid((images * 255).round().to(torch.uint8), 2)
    with Image.open(run / "snapshots/step-00000008.png") as shown:
        assert list(shown.tobytes()) == expected.flatten().tolist()


def test_a_finished_run_says_so_and_trains_nothing_even_with_fewer_steps(workplace: Path) -> None:
    before = files(run_in(workplace) / "checkpoints")
    metrics = (run_in(workplace) / "metrics.jsonl").read_bytes()
    result = command(*training(), folder=workplace).done()
    assert "complete: nothing to train; to train on, give more steps, as in steps=24" in result.err
    assert "training\n" not in result.err
    assert "nothing to train" in command(*training("steps=6"), folder=workplace).err
    assert files(run_in(workplace) / "checkpoints") == before
    assert (run_in(workplace) / "metrics.jsonl").read_bytes() == metrics


def test_changes_outside_the_identity_are_recorded(workplace: Path) -> None:
    changes = ("name=other", "steps=14", "checkpoint_every=1", "sampler.step_size=1e-5", "note=longer")
    result = command(*training(*changes, "--run=digits", "--note=for the weekend"), folder=workplace).done()
    assert "changed since the last start: steps: 12 → 14" in result.err
    run = Run(run_in(workplace))
    segment = read_segments(run)[-1]
    assert (segment.from_step, segment.note) == (12, "for the weekend")
    assert segment.changes == {
        "name": ["digits", "other"],
        "steps": [12, 14],
        "checkpoint_every": [4, 1],
        "sampler.step_size": [2.4e-05, 1e-05],
        "note": ["", "longer"],
    }
    assert (run.experiment().steps, run.experiment().name, run.experiment().note) == (14, "other", "longer")
    assert "command line" in json.loads(run.origins_path.read_text())["sampler.step_size"]
    assert steps_of(run.path) == [4, 8, 12, 13, 14]
    # it resumes under the new values, and none of them is a change
    assert command(*training(*changes, "--run=digits"), folder=workplace).code == 0
    assert read_segments(run)[-1].changes == {}


def test_another_identity_is_refused_with_the_difference_and_the_way_out(workplace: Path) -> None:
    before = files(workplace)
    result = command(*training("optimizer.lr=0.01", "seed=7", "steps=50"), folder=workplace)
    assert result.code == 2
    line = error(result)
    assert "optimizer.lr: 0.002 → 0.01" in line
    assert "seed: 1234 → 7" in line
    assert "steps" not in line
    *_, new, same = result.err.splitlines()
    assert new.endswith("--run digits-2")
    assert same.endswith("ncsnx train runs/digits")
    assert files(workplace) == before


def test_other_data_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "data" / FOLDER)
    train = ["train", "cifar10", *overrides("batch_size=4", "steps=1", "snapshots=none"), "--quiet", *CPU]
    assert command(*train, folder=tmp_path).code == 0
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    assert command(*train, "--data", "elsewhere", folder=tmp_path).code == 0
    damage(tmp_path / "elsewhere" / FOLDER / "data_batch_4.bin")
    result = command(*train, "--data", "elsewhere", folder=tmp_path)
    assert result.code == 1
    assert "was trained on other data" in result.err
    assert "--run cifar10-2" in result.err
    assert steps_of(tmp_path / "runs/cifar10") == [1]


def test_a_new_run_records_the_mean_of_its_data_and_a_resumed_one_keeps_what_it_has(workplace: Path) -> None:
    run = Run(run_in(workplace))
    digits = torch.from_numpy(load_digits().images).float() / 16
    torch.testing.assert_close(run.space().start_mean()[0], digits.mean(dim=0), atol=0.02, rtol=0)
    config = json.loads(run.config_path.read_text())
    del config["space"]["mean_image"]  # as in a run of imported checkpoints
    run.config_path.write_text(json.dumps(config))
    assert command(*training("steps=14"), folder=workplace).code == 0
    assert run.space().mean_image is None
    assert run.space().mean == (pytest.approx(float(digits.mean()), abs=0.01),)


def test_an_unsound_newest_checkpoint_is_named_set_aside_and_made_again(workplace: Path) -> None:
    run = run_in(workplace)
    before, metrics, shown = saved(run, 12), (run / "metrics.jsonl").read_bytes(), events(run, "loss/training_raw")
    damage(checkpoint_folder(run, 12) / "ema.safetensors")
    wait_for_the_next_second()
    result = command(*training(), folder=workplace).done()
    (line,) = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert "checkpoint of step 12 is unsound" in line
    assert "ema.safetensors" in line
    assert line.endswith("falling back to step 8")
    assert saved(run, 12) == before
    assert (run / "checkpoints/step-00000012.unsound-1/ema.safetensors").is_file()
    assert (run / "metrics.jsonl").read_bytes() == metrics
    assert events(run, "loss/training_raw") == shown
    assert line.removeprefix("warning: ") in (run / "log.txt").read_text()


def test_without_a_sound_checkpoint_nothing_begins_anew_over_what_was_recorded(workplace: Path) -> None:
    for step in (4, 8, 12):
        (checkpoint_folder(run_in(workplace), step) / "manifest.json").unlink()
    before = files(run_in(workplace) / "checkpoints")
    result = command(*training(), folder=workplace)
    assert result.code == 1
    assert "error: run 'digits' has no sound checkpoint any more, but had some (none of 3 is sound;" in result.err
    assert result.err.rstrip().endswith("--run digits-2")
    assert files(run_in(workplace) / "checkpoints") == before


def test_a_time_to_train_for_fixes_steps_and_decay_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / "limited", tmp_path / "straight"]
    reached = folders[0] / "runs/digits/checkpoints/step-00000004"

    timing = Timing(seconds_per_evaluation=0.0, seconds_per_training_image=0.0, seconds_per_update=0.9, timed="")
    monkeypatch.setattr(train_run, "time_experiment", lambda *_: timing)
    clock = iter([0.0, 4.0])  # of the command's start and of the planning
    monkeypatch.setattr(train_run, "time", SimpleNamespace(monotonic=lambda: next(clock, 0.0)))
    monkeypatch.setattr(agreed_stop, "time", SimpleNamespace(monotonic=lambda: 1e12 if reached.exists() else 0.0))
    rare = ("eval_every=100", "log_every=20", "snapshots=none")
    words = [word for word in training(*rare) if not word.startswith("steps=")]
    words[1] = "digits.py"
    decay = ("optimizer=", "decay=CosineDecay(steps=9), optimizer=")
    for folder in folders:
        folder.mkdir()
        write_file(folder / "digits.py", ("Adam, ", "Adam, CosineDecay, "), decay)
    ended = command(*words, "--for", "14s", folder=folders[0]).done()
    assert "10 steps fit, estimated from a quick timing" in ended.err
    stopped = steps_of(folders[0] / "runs/digits")[-1]
    rate = percent((1 + math.cos(math.pi * stopped / 10)) / 2)
    assert f"stopped at step {stopped} of 10: time limit reached, learning rate at {rate} of optimizer.lr;" in ended.err
    monkeypatch.setattr(agreed_stop, "time", SimpleNamespace(monotonic=lambda: 0.0))
    assert command(*words, "--for", "9s", folder=folders[0]).code == 0
    assert command(*words, "steps=10", "decay.steps=10", "--for", "9s", folder=folders[1]).code == 0
    limited, straight = (saved(folder / "runs/digits", 10) for folder in folders)
    assert limited["model.safetensors"] == straight["model.safetensors"]


def test_what_is_typed_holds_or_is_refused_beside_a_time_to_train_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreed_stop, "time", SimpleNamespace(monotonic=lambda: 1e12))
    words = [word for word in training("snapshots=none") if not word.startswith("steps=")]
    command(*words, "decay=cosine", "decay.steps=100000", "--for", "1s", folder=tmp_path).done()
    decay = Run(tmp_path / "runs/digits").experiment().decay
    assert decay == CosineDecay(steps=100_000)
    command(*words, "decay=cosine", "decay.steps=100000", "--for", "1s", folder=tmp_path).done()
    for change in (["decay=cosine", "decay.steps=9"], ["decay=none"]):
        refused = command(*words, *change, "--for", "1s", folder=tmp_path)
        assert refused.code == 2
        assert "belongs to another experiment; these values change what is trained: decay" in refused.err


def test_a_time_to_train_for_is_planned_by_the_share_of_a_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, timed = attrs.evolve(SMALL, snapshots=None), list[int]()

    def timing(experiment: Experiment, *others: object) -> Timing:
        timed.append(experiment.batch_size)
        return Timing(seconds_per_evaluation=0.0, seconds_per_training_image=1.0, seconds_per_update=0.0, timed="")

    monkeypatch.setattr(train_run, "time_experiment", timing)
    monkeypatch.setattr(train_run, "time", SimpleNamespace(monotonic=lambda: 0.0))
    fields = {"data": tmp_path, "folder": tmp_path, "name": "new", "budget_s": 100.0}
    job = TrainingJob(experiment=experiment, runtime=Train("digits").training_runtime, **fields)
    steps = []
    for world in (1, 4):
        ranks = SimpleNamespace(world=world, first=lambda find: find())
        planned = train_run._ending_in_time(job, 100.0, None, SimpleNamespace(ranks=ranks, info=lambda line: None))
        steps.append(planned.experiment.steps)
    assert timed == [8, 2]
    assert steps[1] >= 4 * steps[0]


def test_a_time_that_reading_uses_up_still_trains_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreed_stop, "time", SimpleNamespace(monotonic=lambda: 1e12))
    for step in (1, 2):
        assert command(*training("snapshots=none"), "--for", "1s", folder=tmp_path).code == 0
        assert steps_of(tmp_path / "runs/digits")[-1] == step


def test_a_time_to_train_for_is_refused_in_its_own_words(tmp_path: Path) -> None:
    for text in ("1ms", "none"):
        refused = command(*training(), "--for", text, folder=tmp_path)
        assert refused.code == 2
        assert f"--for {text}: expected a time such as" in refused.err
        assert "published" not in refused.err


def test_a_decay_that_the_steps_cut_off_is_said_before_the_first_step(tmp_path: Path) -> None:
    decay = ("decay=cosine", "decay.steps=4", "snapshots=none", "warmup_steps=1")
    result = command(*training("steps=2", *decay), folder=tmp_path)
    assert "the learning rate ends at 50 % of optimizer.lr, since decay.steps is 4; for a complete decay" in result.err
    assert "start another run: steps=2 decay.steps=2" in result.err
    assert "the learning rate " not in command(*training("steps=4", *decay), folder=tmp_path).err


def test_another_way_to_run_is_a_warning(workplace: Path) -> None:
    result = command(*training("steps=13", "--plain", "snapshots=none"), folder=workplace).done()
    assert "bit-identity with an uninterrupted run ends here: plain False → True" in result.err


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["digits", "model=ncsnv2-deepest", "model.width=4"], 1, "multiple of 8 and at least 16"),
        (["digits", "--run", "../x"], 2, "cannot name a run"),
        (["digits", "--device", "cuda:99"], 2, "try --device auto"),
        (["digits", "steps=many"], 2, "steps"),
        (["digits", "precision=tf32", *CPU], 2, "precision=tf32 runs on CUDA only, and the device is cpu"),
    ],
)
def test_what_cant_be_trained_leaves_no_run(tmp_path: Path, words: list[str], code: int, expected: str) -> None:
    result = command("train", *words, folder=tmp_path)
    assert result.code == code
    line = error(result)
    assert expected in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_isnt_a_run_is_never_trained_into(tmp_path: Path) -> None:
    (tmp_path / "runs/digits").mkdir(parents=True)
    (tmp_path / "runs/digits/notes.txt").write_text("mine")
    # a run of that name in the working folder isn't the one that is meant
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/config.json").write_text("{}")
    result = command(*training("steps=1"), folder=tmp_path)
    assert result.code == 1
    assert "runs/digits is not a run" in result.err
    assert files(tmp_path) == {"runs/digits/notes.txt": b"mine", "digits/config.json": b"{}"}


def test_quiet_verbose_notes_and_the_next_command(tmp_path: Path) -> None:
    quiet = command(*training("steps=2", "--quiet", "--note=a remark"), folder=tmp_path)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert "finished at step 2/2" in (tmp_path / "runs/digits/log.txt").read_text()
    assert read_segments(Run(tmp_path / "runs/digits"))[0].note == "a remark"
    verbose = command(*training("steps=4", "--verbose", "--report"), folder=tmp_path)
    assert "experiment digits from " in verbose.err
    assert verbose.err.count("losses      raw: of the weights in training; EMA: of their moving average") == 1
    assert verbose.err.endswith("report: runs/digits/report.html\nnext: ncsnx sample digits --ckpt latest --n 64\n")
    assert command(*training("--verbose", "--quiet"), folder=tmp_path).code == 2


def test_a_start_records_the_state_of_the_repository_that_holds_the_experiment(tmp_path: Path) -> None:
    repository, elsewhere = tmp_path / "repository", tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = write_file(repository / "experiments" / "own.py")
    author = ["-c", "user.name=x", "-c", "user.email=x@y.z"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    file.write_text(f"{file.read_text()}\n# changed\n")
    fields = ["steps=1", "model.width=4", "batch_size=4", "snapshots=none", *CPU]
    assert command("train", str(file), *fields, "--run", "own", folder=elsewhere).code == 0
    (segment,) = read_segments(Run(elsewhere / "runs" / "own"))
    assert segment.git is not None
    assert segment.git.dirty


@pytest.fixture
def named(trained: Path, tmp_path: Path) -> Run:
    """A copy of the run that is called first, as no experiment is."""
    return Run(shutil.copytree(run_in(trained), tmp_path / "runs" / "first"))


def test_a_run_resumes_by_name_or_path_without_its_changes_typed_again(named: Run) -> None:
    folder = named.path.parent.parent
    before = named.experiment()
    (named.path / "experiment.py").write_text("raise SystemExit(9)")
    command("train", "first", "steps=14", "snapshots=none", "--no-report", *CPU, folder=folder).done()
    assert checkpoints(named) == [4, 8, 12, 14]
    for argument in ("runs/first/", "runs/first/config.json", str(named.path)):
        assert "complete: nothing to train" in command("train", argument, *CPU, folder=folder).err
    assert named.experiment().model == before.model
    assert read_origins(named.origins_path)["steps"] == "command line"
    assert [path.name for path in named.path.parent.iterdir()] == ["first"]


def test_another_name_starts_a_new_run_from_the_configuration_of_a_run(named: Run) -> None:
    folder = named.path.parent.parent
    words = ["train", "runs/first", "data.transform=rescaled", "steps=1", "--run", "first-2", "--no-report", *CPU]
    assert command(*words, folder=folder).code == 0
    new = Run(folder / "runs" / "first-2")
    origins = read_origins(new.origins_path)
    assert origins.pop("data.transform") == origins.pop("steps") == "command line"
    before, after = (run.space().start_mean() for run in (named, new))
    torch.testing.assert_close(after, 2 * before - 1, atol=1e-3, rtol=0)
    assert set(origins.values()) == {"run first"}
    assert new.experiment().model == named.experiment().model
    assert not new.source_path.exists()
    assert "complete: nothing to train" in command(*words, folder=folder).err


def test_a_broken_file_of_the_name_of_a_run_isnt_passed_over(named: Run) -> None:
    folder = named.path.parent.parent
    (folder / "experiments").mkdir()
    (folder / "experiments" / "first.py").write_text("1 / 0")
    refused = command("train", "first", *CPU, folder=folder)
    assert refused.code == 2
    assert "the file of that name is broken" in refused.err


def test_an_unknown_or_missing_tracker_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = command(*training("--track=wandv"), folder=tmp_path)
    assert result.code == 2
    assert "there is no tracker 'wandv'; expected mlflow, trackio or wandb." in result.err
    monkeypatch.setattr(RegisteredTracker, "is_installed", property(lambda self: False))
    result = command(*training(), "--track", "wandb", folder=tmp_path)
    assert result.code == 2
    assert "error: wandb is not installed: the module wandb is missing." in result.err
    assert "pip install '.[wandb]'" in result.err
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_a_packages_name_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    found = RegisteredTracker("some", requires="some_tracker")
    assert not found.is_installed
    (tmp_path / "some_tracker" / "__init__.py").touch()
    assert found.is_installed


def test_a_run_without_trackers_says_what_to_type(workplace: Path) -> None:
    result = command("track", "digits", folder=workplace)
    assert result.code == 2
    assert "runs/digits has no record in a tracker." in result.err
    assert "name some:  ncsnx track digits --to TAGS" in result.err
    assert not (workplace / "runs/digits/trackers").exists()


def test_a_resumed_run_continues_without_a_tracker_that_is_not_here(workplace: Path) -> None:
    folder = workplace / "runs" / "digits" / "trackers"
    folder.mkdir()
    (folder / "gone.json").write_text("{}")
    resumed = command(*training(), folder=workplace).done()
    assert "warning: gone does not have everything: there is no tracker 'gone'" in resumed.err
    refused = command(*training(), "--track", "gone", folder=workplace)
    assert refused.code == 2
    assert "there is no tracker 'gone'" in refused.err
