"""`ncsnx import` as it is typed."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints, verify
from ncsnx.runs.segments import read_segments
from tests.cli.command import run
from tests.exchange.test_published_files import Payload
from tests.published import golden_path, golden_states, states_of, write
from tests.training.tiny import Result, files, overrides, training

SMALL = ("model.width=4", "schedule.levels=10")
"""Overrides that make cifar10 the experiment of the golden NCSNv2, apart from the image size."""


def messages(outcome: Result) -> list[str]:
    """Lines of standard error, without the hints below an error."""
    return [line for line in outcome.err.splitlines() if not line.startswith("  ")]


@pytest.fixture
def series(trained: Path, here: Path) -> Path:
    """A folder with the steps 4, 8 and 12 of the tiny experiment as published files."""
    ours = Run(trained / "runs" / "digits")
    folder = here / "published"
    folder.mkdir()
    for step in (4, 8, 12):
        states = states_of(ours.checkpoints / f"step-{step:08d}", ours.experiment())
        write(folder / f"checkpoint_{step}.pth", states, legacy=step == 8)
    return folder


def test_an_imported_run_samples_without_data(here: Path) -> None:
    outcome = run("import", str(golden_path("ncsnv2")), "cifar10", *SMALL).done()
    assert "step 5,000 from ncsnv2_checkpoint_5000.pth: imported (raw and averaged weights)" in outcome.err
    assert outcome.out == ""
    assert outcome.err.endswith("next: ncsnx sample cifar10 --ckpt 5000 --n 16\n")
    sampled = run("sample", "cifar10", "--ckpt", "5000", "--n", "2", "sampler.steps_per_level=1", "--threads", "1")
    assert sampled.code == 0, sampled.err
    assert len(list((here / "runs" / "cifar10" / "samples").glob("*/images/*.png"))) == 2
    shown = run("show", "runs/cifar10", "--origins")
    assert "command line" in shown.out


def test_where_an_imported_run_comes_from_is_kept(here: Path) -> None:
    assert run("import", str(golden_path("ncsnv2")), "cifar10", *SMALL, "--note", "from a friend").code == 0
    ours = Run(here / "runs" / "cifar10")
    (segment,) = read_segments(ours)
    sha256 = hashlib.sha256(golden_path("ncsnv2").read_bytes()).hexdigest()
    assert (segment.from_step, segment.note, segment.imported.sha256) == (5000, "from a friend", sha256)
    assert run("doctor", "cifar10").code == 0
    ours.adopt_data("1" * 64)  # as a training that resumes it does
    card = exported_card("cifar10")
    assert f"\\_5000.pth, step 5,000, sha256 {sha256}" in card
    assert "1" * 64 not in card  # these weights didn't see those data


def exported_card(name: str) -> str:
    """The card of the run's newest checkpoint."""
    run("export", name, "--out", "model", "--grid", "0", "--threads", "1").done()
    return Path("model/README.md").read_text()


def test_a_checkpoint_that_was_trained_from_an_import_names_it(series: Path, here: Path) -> None:
    assert run("import", str(series / "checkpoint_8.pth"), "digits", *overrides()).code == 0
    trained_on = run(*training()).done()
    assert "bit-identity" not in trained_on.err
    sha256 = hashlib.sha256((series / "checkpoint_8.pth").read_bytes()).hexdigest()
    ours = Run(here / "runs" / "digits")
    card = exported_card("digits")
    assert f"trained further from | checkpoint\\_8.pth, step 8, sha256 {sha256}" in card
    assert "of step 12." in card
    assert str(ours.data_fingerprint()) in card


def test_a_folder_becomes_a_sweep_and_a_bad_file_in_it_is_named_and_imported_later(series: Path, here: Path) -> None:
    words = ("import", str(series), "digits", *overrides(), "--run", "swept", "--note", "from a friend")
    whole = (series / "checkpoint_8.pth").read_bytes()
    (series / "checkpoint_8.pth").write_bytes(whole[:-1000])
    first = run(*words)
    assert first.code == 1
    assert f"warning: {series}" in first.err
    told = "error: 1 of 3 files were not imported, for the reasons above: checkpoint_8.pth"
    assert first.err.splitlines()[-1] == told
    swept = Run(here / "runs" / "swept")
    assert checkpoints(swept) == [4, 12]

    (series / "checkpoint_8.pth").write_bytes(whole)
    second = run(*words, "--json").done()
    assert "1 imported, 2 already imported: runs/swept" in second.err
    found = json.loads(second.out)
    assert (found["run"], found["experiment"]) == ("runs/swept", "digits")
    assert [(row["step"], row["ema"]) for row in found["checkpoints"]] == [(4, True), (8, True), (12, True)]
    assert found["checkpoints"][1]["outcome"] == "imported"
    assert checkpoints(swept) == [4, 8, 12]
    state = json.loads((swept.checkpoints / "step-00000008" / "state.json").read_text())
    assert (state["imported"]["file"], state["imported"]["note"]) == ("checkpoint_8.pth", "from a friend")


def test_the_same_file_again_says_so_and_a_half_written_checkpoint_is_made_again(here: Path) -> None:
    words = ("import", str(golden_path("ncsnv2")), "cifar10", *SMALL)
    assert "1 imported: runs/cifar10" in run(*words, "steps=7000").err
    again = run(*words).done()
    assert "pth: already there (raw and averaged weights)\n" in again.err
    assert "0 imported, 1 already imported: runs/cifar10" in again.err
    assert "the run keeps its steps: 7000 (not 300000)" in again.err
    assert "optimizer.lr: 0.0001 → 0.001" in run(*words, "optimizer.lr=1e-3").err

    kept = here / "runs" / "cifar10" / "checkpoints"
    (kept / "step-00005000").rename(kept / ".step-00005000.tmp-9-0a1b2c3d")
    (kept / ".step-00005000.tmp-9-0a1b2c3d" / "manifest.json").unlink()  # written last
    assert run(*words).code == 0
    assert [path.name for path in kept.iterdir()] == ["step-00005000"]
    verify(kept / "step-00005000")


def test_a_run_that_was_trained_here_takes_no_other_training_in(series: Path, trained: Path, here: Path) -> None:
    ours = shutil.copytree(trained / "runs" / "digits", here / "runs" / "digits")
    shutil.rmtree(ours / "checkpoints" / "step-00000012")
    before = files(ours / "checkpoints")
    outcome = run("import", str(series / "checkpoint_12.pth"), "digits", *overrides())
    assert outcome.code == 1
    assert "runs/digits was trained here" in outcome.err
    assert "--run digits-published" in outcome.err
    assert files(ours / "checkpoints") == before


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([".", "cifar10"], 2, "holds no checkpoint_*.pth, but evil.pth; give one"),
        (["evil.pth", "cifar10"], 1, "asks for 'posix.system'"),
    ],
)
def test_mistakes_get_one_line(words: list[str], code: int, told: str, here: Path) -> None:
    write(here / "evil.pth", [Payload(os.system, "touch ran"), {}, 0, 0])
    outcome = run("import", *words)
    assert outcome.code == code
    assert told in outcome.err
    assert len(messages(outcome)) == 1
    assert sorted(path.name for path in here.iterdir()) == ["evil.pth"]


def test_names_in_a_file_stay_inert(here: Path) -> None:
    states = golden_states("ncsnv2")
    states[0]["module.\x1b[31m[bold]\nerror: " + "x" * 10_000] = torch.zeros(1)
    outcome = run("import", str(write(here / "a.pth", states)), "cifar10", *SMALL)
    assert outcome.code == 1
    assert "\x1b" not in outcome.err
    assert "1 tensor surplus (" in outcome.err
    assert len(outcome.err) < 1_000
    assert all(line.isprintable() for line in outcome.err.splitlines())
    assert len(messages(outcome)) == 1
