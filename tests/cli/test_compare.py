"""`ncsnx compare`, and the sampler that it stores as fast."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.config import ProbabilityFlowODE
from ncsnx.config.converter import unstructure
from ncsnx.runs.fast_sampler import find_fast
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, MeasurementProtocol
from ncsnx.storage.documents import document_of
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
    result = command("compare", "digits", *SMALL, folder=folder).done()
    assert "6 settings\n12 trials\n" in result.err
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / RUN / "measurements.jsonl").read_text().splitlines()]


def write(folder: Path, changed: list[dict[str, Any]]) -> None:
    (folder / RUN / "measurements.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in changed))


def test_json_has_a_row_for_each_setting_and_nothing_is_measured_twice(compared: Path) -> None:
    before = lines(compared)
    result = command("compare", "digits", *SMALL, "--json", folder=compared).done()
    assert "12 trials already measured" in result.err
    assert lines(compared) == before
    shown = json.loads(result.out)
    rows = shown["rows"]
    found = [(row["sampler"]["type"], row["sampler"].get("steps"), row["evaluations"]) for row in rows]
    assert found == [("ald", None, 5), *[("cas", 2, 2)] * 4, ("dpmpp", 2, 2)]
    for row in rows:
        assert row["seeds"] == 2
        assert row["score"] > 0
        assert row["error"] >= 0
        assert 0 <= row["broken"] <= 1
        assert row["seconds"] > 0
    assert shown["protocol"]["step"] == 12
    assert shown["plus_minus"] == {"score": "standard deviation over seeds"}
    (place,) = [path for path in (compared / RUN / "compare").iterdir() if path.is_dir()]
    assert all(entry["made"].keys() >= {"started", "finished", "command"} for entry in before[1:])
    assert {path.name for path in place.iterdir()} >= {"scores.csv", "samplers.png", "samplers.svg"}


@pytest.mark.slow
def test_the_recommendation_is_what_fast_means_in_sample_and_fid(hopeless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hopeless, tmp_path / "work"))
    script(folder, lambda row: sound(row) | ({"score": 5.0} if row["sampler"].get("order") == 1 else {}), fresh=True)
    sampled = command("sample", "digits", "sampler=fast", "--n", "2", *CPU, folder=folder).done()
    assert "sampler=fast: sampler=cas " in sampled.err
    said = (
        "sampler.order=1, found on step 12: measured no worse than the run's own sampler with fresh seeds: distance 10"
    )
    assert said in sampled.err
    assert "sampler=cas with order=1 and eta=1 gives Gaussian data 50 % of its variance" in sampled.err
    (protocol,) = Run(folder / RUN).samples.glob("*/protocol.json")
    assert json.loads(protocol.read_text())["sampler"]["order"] == 1
    command("fid", "digits", "--n", "20", *JUDGE, *CPU, "sampler=fast", folder=folder).done()
    assert command("doctor", "digits", folder=folder).code == 0


@pytest.fixture(scope="module")
def hopeless(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which every sampler breaks most images, and whose own takes 25 evaluations, compared."""
    folder = tmp_path_factory.mktemp("hopeless")
    shutil.copytree(compared, folder, dirs_exist_ok=True)
    run = Run(folder / RUN)
    write(folder, [one for one in lines(folder) if one.get("subject", {}).get("sampler", {}).get("type") != "ald"])
    experiment = run.experiment()
    run.update_experiment(attrs.evolve(experiment, sampler=attrs.evolve(experiment.sampler, steps_per_level=6)))
    result = command("compare", "digits", *SMALL, folder=folder)
    assert "no sampler is recommended: no setting with at most 25 evaluations is usable" in result.err
    assert find_fast(Ledger.read(run)) is None
    return folder


def script(folder: Path, changes: Callable[[dict[str, Any]], dict[str, Any]], fresh: bool = False) -> None:
    """Rewrites the trials of a comparison; the same with fresh seeds beside them."""
    protocol, *trials = lines(folder)
    trials = [one for one in trials if one["subject"]["seed"] < 2]
    for one in trials:
        one["values"] |= changes(one["subject"])
    again = [
        {
            **one,
            "subject": {**one["subject"], "seed": 1_000 + one["subject"]["seed"]},
            "values": {**one["values"], "score": one["values"]["score"] + 5},
        }
        for one in trials
    ]
    write(folder, [protocol, *trials, *(again if fresh else [])])


def sound(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a trial that breaks nothing; dpmpp has the smallest distance."""
    return {"broken": 0.0, "score": {"ald": 14.0, "dpmpp": 7.0}.get(row["sampler"]["type"], 9.0) + row["seed"] / 10}


def test_the_recommended_one_is_measured_again_with_fresh_seeds(hopeless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hopeless, tmp_path / "work"))
    script(folder, sound, fresh=True)
    result = command("compare", "digits", *SMALL, folder=folder).done()
    assert "what sampler=fast means: sampler=dpmpp sampler.steps=2" in result.err
    assert "measured no worse than the run's own sampler with fresh seeds: distance 12.050 ± 0.071, 0 %" in result.err
    assert "(chosen with other seeds, by its 7.050, as the fewest evaluations that measured no worse)" in result.err
    assert "next: ncsnx sample digits sampler=fast" in result.err
    assert re.search(r"19\.0.* measured again: the run's own", result.out)
    found = find_fast(Ledger.read(Run(folder / RUN)))
    assert found is not None
    assert found.found is not None
    assert found.found.again is not None
    assert (found.found.score, found.found.again.score) == (pytest.approx(7.05), pytest.approx(12.05))
    rows = json.loads(command("compare", "digits", *SMALL, "--json", folder=folder).out)["rows"]
    assert [row["sampler"]["type"] for row in rows if row.get("remark") == "chosen"] == ["dpmpp"]
    assert [row["measured_again"]["score"] if "measured_again" in row else None for row in rows] == [
        pytest.approx(19.05),
        *[None] * 4,
        pytest.approx(12.05),
    ]
    assert command("doctor", "digits", folder=folder).code == 0
    (folder / "runs").rename(folder / "my runs")
    elsewhere = command("compare", "my runs/digits", *SMALL, folder=folder)
    assert "next: ncsnx sample 'my runs/digits' sampler=fast" in elsewhere.err


def test_a_comparison_with_more_seeds_that_was_stopped_keeps_the_recommendation(hopeless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hopeless, tmp_path / "work"))
    script(folder, sound, fresh=True)
    before = find_fast(Ledger.read(Run(folder / RUN)))
    protocol, *trials = lines(folder)
    own = next(one for one in trials if one["subject"]["sampler"]["type"] == "ald")
    write(folder, [protocol, *trials, {**own, "subject": {**own["subject"], "seed": 2}}])
    now = find_fast(Ledger.read(Run(folder / RUN)))
    assert before is not None
    assert now is not None
    assert str(now) == str(before)


def test_a_recommended_sampler_that_draws_another_distribution_is_warned_of(hopeless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hopeless, tmp_path / "work"))
    script(folder, lambda row: sound(row) | ({"score": 5.0} if row["sampler"].get("order") == 1 else {}), fresh=True)
    result = command("compare", "digits", *SMALL, folder=folder)
    assert re.search("what sampler=fast means: sampler=cas .*sampler.order=1", result.err)
    assert "sampler=cas with order=1 and eta=1 gives Gaussian data 50 % of its variance" in result.err


def test_of_one_step_the_recommendation_of_the_most_images_stays(hopeless: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hopeless, tmp_path / "work"))
    script(folder, sound, fresh=True)
    protocol, *trials = lines(folder)
    many = {**protocol, "facts": {**protocol["facts"], "n": 500}}
    name = document_of(many, MeasurementProtocol, "").digest
    better = [{**one, "protocol": name, "values": {**one["values"]}} for one in trials]
    for one in better:
        one["values"]["score"] -= 3 * (one["subject"]["sampler"]["type"] == "cas")  # cas, where dpmpp was the nearest
    write(folder, [many, *better, protocol, *trials])
    result = command("compare", "digits", *SMALL, folder=folder).done()
    assert "another one was measured with more images: sampler=dpmpp" in result.err
    assert "sampler=fast still means sampler=cas" in result.err


def test_fewer_seeds_than_the_own_samplers_recommend_nothing(hopeless: Path, tmp_path: Path) -> None:
    """The same happens after a comparison that was stopped before it measured the choice again."""
    folder = Path(shutil.copytree(hopeless, tmp_path / "work"))
    script(folder, sound)
    assert "has no fast sampler yet" in error(command("sample", "digits", "sampler=fast", *CPU, folder=folder))


def test_trials_of_a_sampler_whose_package_is_gone_are_left_out(compared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compared, tmp_path / "work"))
    protocol, *trials = lines(folder)
    subject = {**trials[0]["subject"], "sampler": {"type": "gone", "steps": 3}}
    write(
        folder, [protocol, *trials, {**trials[0], "subject": subject, "values": {**trials[0]["values"], "score": 0.1}}]
    )
    result = command("compare", "digits", *SMALL, "--json", folder=folder).done()
    assert "gone" not in {row["sampler"]["type"] for row in json.loads(result.out)["rows"]}
    assert command("report", "digits", folder=folder).code == 0
    assert command("doctor", "digits", folder=folder).code == 0


def test_what_a_trial_that_diverged_took_is_left_open_where_nobody_knows_it(compared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compared, tmp_path / "work"))
    diverged = {"score": None, "broken": 1.0, "evaluations": None, "seconds": None}
    protocol, *trials = lines(folder)
    subject = {**trials[0]["subject"], "sampler": unstructure(ProbabilityFlowODE())}
    trials += [{**trials[0], "values": diverged, "subject": {**subject, "seed": seed}} for seed in (0, 1)]
    write(folder, [protocol, *trials])
    result = command("compare", "digits", *SMALL, "--json", folder=folder).done()
    row = json.loads(result.out)["rows"][-1]
    assert (row["sampler"]["type"], row["broken"]) == ("ode", 1.0)
    assert [row[key] for key in ("score", "error", "evaluations", "seconds")] == [None] * 4
    assert "diverged" in command("compare", "digits", *SMALL, folder=folder).out
