"""`ncsnx compare`, and the sampler that it stores as fast."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.config import ConsistentAnnealed, ProbabilityFlowODE
from ncsnx.config.converter import unstructure
from ncsnx.runs.fast_sampler import FastSampler, read_fast, write_fast
from ncsnx.runs.folder import Run
from tests.cli.drawing import error
from tests.training.tiny import CPU, command

RUN = "runs/digits"
JUDGE = ("features.steps=30", "features.width=8")
TRIALS = ("--samplers", "cas,dpmpp", "--evaluations", "2", "--n", "10", "--seeds", "2", "--batch-size", "10")
SMALL = (*TRIALS, *JUDGE, *CPU)


@pytest.fixture(scope="module")
def compared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose latest checkpoint was compared."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    result = command("compare", "digits", *SMALL, folder=folder)
    assert result.code == 0, result.err
    assert "12 trials of 6 settings" in result.err
    return folder


def test_json_has_a_row_for_each_setting_and_nothing_is_measured_twice(compared: Path) -> None:
    result = command("compare", "digits", *SMALL, "--json", folder=compared)
    assert result.code == 0, result.err
    assert "trials of" not in result.err
    rows = json.loads(result.out)
    found = [(row["sampler"], row["steps"], row["evaluations"]) for row in rows]
    assert found == [("ald", None, 5), *[("cas", 2, 2)] * 4, ("dpmpp", 2, 2)]
    for row in rows:
        assert row["seeds"] == 2
        assert row["distance"] > 0
        assert row["spread"] >= 0
        assert 0 <= row["broken"] <= 1
        assert row["seconds"] > 0
    (place,) = [path for path in (compared / RUN / "compare").iterdir() if path.is_dir()]
    kept = json.loads((place / "results.json").read_text())
    assert kept["rows"] == rows
    assert kept["made"].keys() >= {"started", "command"}
    assert {path.name for path in place.iterdir()} >= {"trials.jsonl", "samplers.png", "samplers.svg"}


@pytest.mark.slow
def test_the_recommendation_is_what_fast_means_in_sample_and_fid(compared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compared, tmp_path / "work"))
    run = Run(folder / RUN)
    row, own = ({"evaluations": count, "distance": 9.5, "broken": 0.01} for count in (3, 5))
    write_fast(run, FastSampler(ConsistentAnnealed(steps=3, order=1), 12, row, own, {"n": 20}, chosen_by=row))
    sampled = command("sample", "digits", "sampler=fast", "--n", "2", *CPU, folder=folder)
    assert sampled.code == 0, sampled.err
    said = (
        "sampler=fast: sampler=cas sampler.steps=3 sampler.order=1, found on step 12: measured no worse than the "
        "run's own sampler with fresh seeds: distance 9.500, 1 % broken, 3 ev"
    )
    assert said in sampled.err
    assert "sampler=cas with order=1 and eta=1 gives Gaussian data 50 % of its variance" in sampled.err
    (protocol,) = run.samples.glob("*/protocol.json")
    assert json.loads(protocol.read_text())["sampler"]["steps"] == 3
    sweep = ("fid", "digits", "--n", "20", *JUDGE, *CPU)
    first = command(*sweep, "sampler=fast", folder=folder)
    assert first.code == 0, first.err
    assert command("doctor", "digits", folder=folder).code == 0


@pytest.fixture(scope="module")
def hopeless(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which every sampler breaks most images, and whose own takes 25 evaluations, compared."""
    folder = tmp_path_factory.mktemp("hopeless")
    shutil.copytree(compared, folder, dirs_exist_ok=True)
    run = Run(folder / RUN)
    (path,) = run.compare.glob("*/trials.jsonl")
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if '"ald"' not in line))
    experiment = run.experiment()
    run.update_experiment(attrs.evolve(experiment, sampler=attrs.evolve(experiment.sampler, steps_per_level=6)))
    result = command("compare", "digits", *SMALL, folder=folder)
    assert "no sampler is recommended, and none stored: no setting with at most 25 evaluations is usable" in result.err
    assert not (run.compare / "fast.json").exists()
    return folder


def script(folder: Path, changes: Callable[[dict[str, Any]], dict[str, Any]], fresh: bool = False) -> None:
    """Rewrites the trials of a comparison; the same with fresh seeds beside them."""
    (path,) = (folder / RUN / "compare").glob("*/trials.jsonl")
    rows = [{**row, **changes(row)} for row in map(json.loads, path.read_text().splitlines()) if row["seed"] < 2]
    again = [{**row, "seed": 1_000 + row["seed"], "distance": row["distance"] + 5} for row in rows] if fresh else []
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *again]))


def sound(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a trial that breaks nothing; dpmpp has the smallest distance."""
    return {"broken": 0.0, "distance": {"ald": 14.0, "dpmpp": 7.0}.get(row["sampler"]["type"], 9.0) + row["seed"] / 10}


def test_the_stored_numbers_are_those_that_were_measured_again(hopeless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hopeless, tmp_path / "work"))
    script(folder, sound, fresh=True)
    result = command("compare", "digits", *SMALL, folder=folder)
    assert result.code == 0, result.err
    assert "stored as sampler=fast: sampler=dpmpp sampler.steps=2" in result.err
    assert "measured no worse than the run's own sampler with fresh seeds: distance 12.050 ± 0.071, 0 %" in result.err
    assert "(chosen with other seeds, by its 7.050, as the fewest evaluations that measured no worse)" in result.err
    assert re.search(r"19\.0.* measured again: the run's own", result.out)
    stored = read_fast(Run(folder / RUN))
    assert stored.chosen_by is not None
    assert (stored.chosen_by["distance"], stored.row["distance"]) == (pytest.approx(7.05), pytest.approx(12.05))
    rows = json.loads(command("compare", "digits", *SMALL, "--json", folder=folder).out)
    assert [row["sampler"] for row in rows if row["recommended"]] == ["dpmpp"]
    assert [row["measured_again"] and row["measured_again"]["distance"] for row in rows] == [
        pytest.approx(19.05),
        *[None] * 4,
        pytest.approx(12.05),
    ]
    assert command("doctor", "digits", folder=folder).code == 0
    (folder / "runs").rename(folder / "my runs")
    elsewhere = command("compare", "my runs/digits", *SMALL, folder=folder)
    assert "next: ncsnx sample 'my runs/digits' sampler=fast" in elsewhere.err


def test_a_recommended_sampler_that_draws_another_distribution_is_warned_of(hopeless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hopeless, tmp_path / "work"))
    script(folder, lambda row: sound(row) | ({"distance": 5.0} if row["sampler"].get("order") == 1 else {}), fresh=True)
    result = command("compare", "digits", *SMALL, folder=folder)
    assert re.search("stored as sampler=fast: sampler=cas .*sampler.order=1", result.err)
    assert "sampler=cas with order=1 and eta=1 gives Gaussian data 50 % of its variance" in result.err


def test_fewer_images_replace_no_recommendation_and_none_leaves_the_one_before(compared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compared, tmp_path / "work"))
    run = Run(folder / RUN)
    before = FastSampler(ConsistentAnnealed(steps=3), 12, {"seeds": 3}, {}, {"n": 1000}, chosen_by={})
    write_fast(run, before)
    result = command("compare", "digits", *SMALL, folder=folder)
    assert result.code == 0, result.err
    assert "sampler=fast still means sampler=cas sampler.steps=3, found on step 12" in result.err
    assert read_fast(run) == before


def test_a_damaged_recommendation_is_refused_and_found_by_the_doctor(compared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compared, tmp_path / "work"))
    (folder / RUN / "compare/fast.json").write_text("{}")
    assert "fast.json" in error(command("sample", "digits", "sampler=fast", *CPU, folder=folder))
    assert "compare/fast.json" in command("doctor", "digits", folder=folder).out


def test_what_a_trial_that_diverged_took_is_left_open_where_nobody_knows_it(compared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compared, tmp_path / "work"))
    (place,) = [path for path in (folder / RUN / "compare").iterdir() if path.is_dir()]
    diverged = {"distance": None, "broken": 1.0, "evaluations": None, "seconds": None}
    trials = [json.loads(line) for line in (place / "trials.jsonl").read_text().splitlines()]
    trials += [{**trials[0], **diverged, "sampler": unstructure(ProbabilityFlowODE()), "seed": seed} for seed in (0, 1)]
    (place / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    result = command("compare", "digits", *SMALL, "--json", folder=folder)
    assert result.code == 0, result.err
    row = json.loads(result.out)[-1]
    assert (row["sampler"], row["broken"]) == ("ode", 1.0)
    assert [row[key] for key in ("distance", "spread", "evaluations", "seconds")] == [None] * 4
    assert "diverged" in command("compare", "digits", *SMALL, folder=folder).out
