"""`list`, `show` and `diff`, on experiments and on runs, for people and as JSON."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.config import SGD
from ncsnx.config.codec import identity, to_json
from ncsnx.config.discovery import built_in_folder, resolve
from ncsnx.runs.folder import Run
from ncsnx.runs.selection import open_model_folder
from ncsnx.runs.targets import find_target
from ncsnx.runs.writer_lock import HOLDER, writer_lock
from tests.cli.command import run
from tests.config.examples import from_json, line_of, minimal, write_file
from tests.spaces import space_of


@pytest.fixture
def own(here: Path) -> Path:
    """A file with one experiment, `own`."""
    return write_file(Path("experiments") / "own.py")


@pytest.fixture
def unfinished(here: Path) -> Run:
    """A run of `minimal` under another name, with a checkpoint's folder at step 500."""
    run_folder = Run.create(
        Path("runs"), "first", minimal(), {"steps": "/gone/minimal.py:9"}, None, "f" * 64, space_of(minimal().data)
    )
    (run_folder.checkpoints / "step-00000500").mkdir()
    return run_folder


def shown(*arguments: str) -> Any:
    outcome = run(*arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def table(text: str) -> dict[str, list[str]]:
    """First cell → the other cells of its row."""
    return {cells[0]: cells[1:] for cells in (line.split() for line in text.splitlines()) if cells}


def test_list_has_the_own_and_the_built_in_experiments_and_the_runs(own: Path, unfinished: Run) -> None:
    outcome = run("list")
    assert (outcome.code, outcome.err) == (0, "")
    rows = table(outcome.out)
    assert rows["own"] == ["digits", "8", "ncsnv2", "24", "128", "1,500", line_of(own, "= register(")]
    assert rows["ffhq256"] == ["ffhq", "256", "ncsnv2-deepest", "2,311", "32", "80,000", "built", "in"]
    assert rows["first"][:4] == ["minimal", "500", "1,500", "unfinished"]
    assert "broken" not in outcome.out


def test_list_as_json_has_the_same(own: Path, unfinished: Run) -> None:
    listed = shown("list")
    assert len(listed["experiments"]) == 16
    expected = {"name": "own", "image_size": 8, "levels": 24, "where": line_of(own, "= register("), "error": None}
    assert expected.items() <= listed["experiments"][0].items()
    (row,) = listed["runs"]
    assert row.pop("configuration") == to_json(minimal())["experiment"]
    expected = {"run": "first", "path": "runs/first", "step": 500, "state": "unfinished", "error": None, "best": None}
    assert expected.items() <= row.items()


def test_a_name_of_a_higher_rank_is_listed_once(here: Path) -> None:
    """A clone of the repository has copies of the installed package's files."""
    shutil.copytree(built_in_folder(), here / "experiments")
    names = [row["name"] for row in shown("list")["experiments"]]
    assert len(names) == len(set(names)) == 15


def test_list_says_running_while_a_writer_holds_the_lock_and_complete_after_the_last_step(unfinished: Run) -> None:
    with writer_lock(unfinished):
        assert shown("list")["runs"][0]["state"] == "running"
    (unfinished.path / HOLDER).write_text('{"pid": 1, "host": "here", "command": "ncsnx train", "started": "now"}')
    assert shown("list")["runs"][0]["state"] == "unfinished", "the note of a killed one is no lock"
    (unfinished.checkpoints / "step-00001500").mkdir()
    assert shown("list")["runs"][0]["state"] == "complete"


def test_list_orders_runs_without_the_experiments_and_shows_the_column(unfinished: Run) -> None:
    other = Run.create(Path("runs"), "second", minimal(), {}, None, "f" * 64, space_of(minimal().data))
    other.metrics_path.write_text('{"step": 500, "held_out": 7.25}\n')
    head, *rows = (re.split("  +", line) for line in run("list", "--sort", "held_out").out.splitlines())
    assert [row[0] for row in rows] == ["second", "first"]
    assert rows[0][head.index("held_out")] == "7.250"
    assert run("list", "--sort", "sead").code == 2


def test_show_has_every_value_and_the_identity(own: Path) -> None:
    outcome = run("show", "own")
    rows = table(outcome.out)
    assert rows["field"] == ["value", "identity"]
    assert (rows["optimizer.lr"], rows["optimizer"], rows["steps"]) == (["0.001", "yes"], ["adam", "yes"], ["1500"])
    assert (rows["clip_norm"], rows["sampler.denoise"]) == (["none", "yes"], ["true"])
    assert rows["identity"] == [identity(resolve("own").experiment)]
    assert rows["from"] == [line_of(own, "= register(")]


def test_show_as_json_reads_back_as_the_experiment(own: Path) -> None:
    saved = shown("show", "own", "optimizer=sgd", "optimizer.momentum=0.8", "steps=50k")
    digest = saved.pop("identity")
    experiment = from_json(saved)
    assert experiment.optimizer == SGD(momentum=0.8)
    assert experiment.steps == 50_000
    assert identity(experiment) == digest


def test_show_with_origins_says_where_each_value_comes_from(own: Path) -> None:
    outcome = run("show", "own", "--origins", "optimizer.eps=1e-3")
    rows = table(outcome.out)
    assert rows["model.width"] == ["32", "yes", line_of(own, "= register(")]
    assert rows["optimizer.eps"] == ["0.001", "yes", "command", "line"]
    assert rows["optimizer.beta1"] == ["0.9", "yes", "default"]
    assert rows["steps"] == ["1500", line_of(own, "= register(")]
    origins = shown("show", "own", "--origins", "optimizer.eps=1e-3")["origins"]
    assert origins["optimizer.eps"] == "command line"
    assert origins["model.width"] == line_of(own, "= register(")
    assert "origins" not in shown("show", "own")
    inside = shown("show", f"{own.resolve()}:own", "--origins")["origins"]
    assert inside["model.width"] == line_of(own, "= register("), "relative to the current folder"
    assert run("show", "digits", "--origins").out.count("  digits.py:") > 10


def test_show_of_a_run_has_its_experiment_and_recorded_origins(unfinished: Run) -> None:
    for target in ("first", "./runs/first", str(unfinished.path.resolve()), "runs/first/"):
        assert from_json({k: v for k, v in shown("show", target).items() if k != "identity"}) == minimal()
    rows = table(run("show", "runs/first", "--origins").out)
    assert (rows["steps"], rows["minimal.py"]) == (["1500", "minimal.py:9"], ["/gone/minimal.py"])
    assert rows["seed"] == ["0", "yes", "unknown"]
    assert rows["from"] == ["runs/first"]


def test_runs_slash_name_means_the_run_whose_name_alone_is_the_experiment(own: Path) -> None:
    Run.create(Path("elsewhere"), "own", minimal(), {}, None, "f" * 64, space_of(minimal().data))
    assert shown("show", "own", "--runs", "elsewhere")["experiment"]["name"] == "own"
    assert shown("show", "runs/own", "--runs", "elsewhere")["experiment"]["name"] == "minimal"
    other = attrs.evolve(minimal(), name="other")
    Run.create(Path("runs"), "own", other, {}, None, "f" * 64, space_of(other.data))
    assert shown("show", "runs/own", "--runs", "elsewhere")["experiment"]["name"] == "other", "a path is a path"
    assert open_model_folder(Path("elsewhere"), "runs/own").path == find_target("runs/own", Path("elsewhere")).run.path


def test_a_run_is_shown_though_its_file_and_its_folder_of_experiments_are_broken(unfinished: Run) -> None:
    write_file(Path("experiments") / "minimal.py").write_text("1 / 0")
    (unfinished.path / "experiment.py").write_text("raise SystemExit(9)")
    assert shown("show", "runs/first")["experiment"]["name"] == "minimal"


def test_diff_names_what_differs_and_whether_it_changes_the_weights(own: Path, unfinished: Run) -> None:
    outcome = run("diff", "own", "runs/first").done()
    rows = table(outcome.out)
    assert rows["field"] == ["own", "runs/first", "identity"]
    assert rows["name"] == ["own", "minimal"]
    assert rows["model.width"] == ["32", "128", "yes"]
    assert rows["optimizer.lr"] == ["0.001", "0.0001", "yes"]
    assert rows["sampler.step_size"] == ["2.4e-05", "2e-05"]
    assert "seed" not in rows
    assert outcome.out.endswith("\n\n4 values differ; the trained weights would differ\n")
    write_file(Path("experiments") / "longer.py", ("steps=1_500", "steps=3_000"))
    assert run("diff", "own", "longer").out.endswith("2 values differ; the trained weights would be the same\n")
    assert run("diff", "own", "own").out == "no value differs; the trained weights would be the same\n"
    assert shown("diff", "own", "own") == []


def test_diff_compares_any_number_each_with_its_own_changes(own: Path, unfinished: Run) -> None:
    outcome = run("diff", "own", "own", "model.width=64", "runs/first", "steps=5")
    rows = table(outcome.out)
    assert rows["model.width"] == ["32", "64", "128", "yes"]
    assert rows["steps"] == ["1500", "1500", "5"]
    assert "own model.width=64  runs/first steps=5" in outcome.out.splitlines()[0]
    found = {row.pop("path"): row for row in shown("diff", "own", "own", "optimizer=sgd", "own", "ema=none")}
    assert found["optimizer.momentum"] == {"b": 0.9, "identity": True}
    assert found["ema"] == {"c": None, "identity": True}
    assert found["optimizer"] == {"a": "adam", "b": "sgd", "c": "adam", "identity": True}


def test_a_run_is_shown_with_changes_and_keeps_its_origins(unfinished: Run) -> None:
    origins = shown("show", "runs/first", "seed=3", "--origins")["origins"]
    assert origins == {"seed": "command line", "steps": "/gone/minimal.py:9"}
    assert unfinished.experiment() == minimal()
