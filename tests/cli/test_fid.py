"""`ncsnx fid` on a small run: scores, cache, interruption, best, and what is refused."""

import csv
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ncsnx import draw, load
from ncsnx.config.feature_networks import Classifier
from ncsnx.errors import NcsnxError
from ncsnx.evaluation import distance, measure
from ncsnx.evaluation.distance import make_room
from ncsnx.evaluation.measure import mean_score
from ncsnx.evaluation.reference import open_reference, reference_images
from ncsnx.features.extractors import build_features
from ncsnx.features.real_images import DataSource
from ncsnx.images import to_uint8
from ncsnx.metrics.frechet import frechet_distance_of_images, standard_error
from ncsnx.metrics.kernel import kernel_distance
from ncsnx.runs.folder import Run
from ncsnx.work import Work
from tests.cli.drawing import error
from tests.training.tiny import CPU, Result, command, damage, training

RUN = "runs/digits"
QUICK = ("features.steps=30", "features.width=8")
"""A classifier of seconds: what it is good for isn't what these tests are about."""
SMALL = ("--n", "40", *QUICK, *CPU)


def fid(folder: Path, *words: str, run: str = "digits") -> Result:
    return command("fid", run, *words, *SMALL, folder=folder)


def printed(folder: Path, *words: str, run: str = "digits") -> dict[str, Any]:
    """The JSON that the command prints."""
    result = fid(folder, "--json", *words, run=run).done()
    return dict(json.loads(result.out))


def rows(folder: Path, *words: str, run: str = "digits") -> list[dict[str, Any]]:
    """The rows that --json prints."""
    return list(printed(folder, *words, run=run)["rows"])


def measured(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the remarks on how they came about."""
    return [{key: value for key, value in row.items() if key != "made"} for row in found]


def sweeps(folder: Path, run: str = RUN) -> list[Path]:
    return sorted((folder / run / "fid").iterdir())


@pytest.fixture(scope="module")
def swept(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run all of whose checkpoints are scored. Not to be changed."""
    folder = tmp_path_factory.mktemp("swept")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    assert fid(folder, "--range", "all").code == 0
    return folder


@pytest.fixture
def workplace(swept: Path, tmp_path: Path) -> Path:
    """A copy of `swept` to work in."""
    return Path(shutil.copytree(swept, tmp_path / "work"))


def test_every_checkpoint_gets_a_row_with_its_protocol_in_json_csv_and_pictures(swept: Path) -> None:
    (sweep,) = sweeps(swept)
    found = rows(swept)
    assert [row["step"] for row in found] == [4, 8, 12]
    with (sweep / "scores.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(line["score"]) for line in table] == [row["score"] for row in found]
    with Image.open(sweep / "scores.png") as plot:
        assert plot.size[0] > 800
    assert ElementTree.parse(sweep / "scores.svg").getroot().tag.endswith("svg")
    shown = printed(swept)
    protocol = shown["protocol"]
    assert shown["metric"] == f"FD (digits classifier {protocol['features']['sha256'][:8]})"
    assert (protocol["n"], protocol["seed"], protocol["weights"], protocol["ensemble"]) == (40, 0, "ema", 1)
    assert (protocol["sampler"]["type"], protocol["sampler"]["denoise"]) == ("ald", True)
    assert [row["evaluations"] for row in found] == [4 * 1 + 1] * 3
    starts = [(row["made"]["started"], row["made"]["finished"]) for row in found]
    assert sorted(sum(starts, ())) == list(sum(starts, ())), "one after the other"
    assert protocol["features"]["type"] == "classifier"
    assert len(protocol["features"]["sha256"]) == 64
    assert protocol["reference"]["images"] == 1498
    assert len(protocol["reference"]["fingerprint"]) == 64


def test_the_scores_are_those_of_the_images_that_sample_draws(swept: Path, tmp_path: Path, cache: Path) -> None:
    """The same seed, checkpoint and sampler through `ncsnx sample`, and the distances computed by hand."""
    model = load(swept / RUN, ckpt=8)
    source = DataSource(data=model.checkpoint.experiment.data, folder=tmp_path)
    features = build_features(Classifier(steps=30, width=8), source, cache, model.runtime, Work())
    reference = open_reference(reference_images(None, source, Work()), features, cache, Work())
    seen = features(to_uint8(draw(model, n=40, seed=0))).features

    (row,) = rows(swept, "--range", "8")
    assert row["score"] == pytest.approx(
        frechet_distance_of_images(seen, reference.mean, reference.covariance), rel=1e-6
    )
    assert row["error"] == pytest.approx(standard_error(seen, reference.mean, reference.covariance, 0), rel=1e-4)
    assert reference.sample is not None
    assert row["kernel_distance"] == pytest.approx(
        kernel_distance(seen, reference.sample, 0)["kernel_distance"], rel=1e-5
    )


def test_the_page_that_the_training_named_has_the_scores(swept: Path, trained: Path) -> None:
    pages = [(folder / RUN / "report.html").read_text() for folder in (trained, swept)]
    assert ['<section id="scores">' in page for page in pages] == [False, True]


def test_a_second_call_measures_nothing_and_shows_a_perfect_model_beside_the_scores(swept: Path) -> None:
    (sweep,) = sweeps(swept)
    before = (swept / RUN / "measurements.jsonl").read_bytes()
    shown, result = printed(swept), fid(swept)
    assert "3 checkpoints already measured" in result.err
    assert (swept / RUN / "measurements.jsonl").read_bytes() == before
    assert shown["metric"] in result.out
    assert result.out.count("best") == 1
    assert "not with published numbers (10,000 or 50,000 images)" in result.err

    perfect = shown["perfect_model"]
    assert (perfect["n"], perfect["drawn"], perfect["reference_images"]) == (40, 40, 1498)
    told = f"perfect model: {shown['metric']} "
    (number,) = re.findall(rf"^{re.escape(told)}([0-9.]+ ± [0-9.]+) \({perfect['words']}\)$", result.err, re.MULTILINE)
    assert re.split(" {2,}", result.out.splitlines()[-1].strip()) == ["perfect model", number, "0.000"]
    assert f"perfect model: {perfect['words']}" in shown["caption"]
    assert "± standard error; perfect model: standard deviation over draws\n" in result.err
    assert f"perfect model: {number}" in (sweep / "scores.svg").read_text()


@pytest.mark.slow
def test_what_an_adaptive_solver_took_is_in_the_row_and_its_tolerance_in_the_caption(workplace: Path) -> None:
    words = ("--n", "12", "--batch-size", "6", "sampler=ode", "sampler.steps=2", "sampler.tolerance=0.05")
    shown = json.loads(fid(workplace, "--range", "latest", *words, "--json").out)
    (row,) = shown["rows"]
    assert "sampler=ode sampler.steps=2 sampler.tolerance=0.05" in shown["caption"]
    drawn = command("sample", "digits", *words, *CPU, folder=workplace)
    (mean,) = re.findall(r"(\d+) evaluations per image, averaged", drawn.err)
    assert row["evaluations"] == pytest.approx(float(mean), abs=0.5)


def test_best_is_what_the_sweep_says_and_sample_names_it(swept: Path, workplace: Path) -> None:
    best = min(rows(swept), key=lambda row: float(row["score"]))
    result = command("sample", "digits", "--ckpt", "best", "--n", "1", "--out", "out", *CPU, folder=workplace).done()
    assert f"best: step {best['step']}, FD (digits classifier " in result.err
    assert json.loads((workplace / "out" / "protocol.json").read_text())["step"] == best["step"]
    assert [row["step"] for row in rows(workplace, "--range", "best")] == [best["step"]]


def ledger(folder: Path) -> Path:
    return folder / RUN / "measurements.jsonl"


def change_entries(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the numbers of each entry."""
    lines = [json.loads(line) for line in ledger(folder).read_text().splitlines()]
    for line in lines:
        if "values" in line:
            change(line["values"])
    ledger(folder).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def as_an_earlier_version_left_them(folder: Path) -> None:
    """Takes a metric that came later out of every entry."""

    def change(values: dict[str, Any]) -> None:
        for key in ("density", "density_error", "coverage", "coverage_error"):
            del values[key]
        del values["metrics"]["density-coverage"]

    change_entries(folder, change)


def test_a_metric_that_comes_later_is_measured_from_the_features_that_were_kept(workplace: Path) -> None:
    before = rows(workplace)
    as_an_earlier_version_left_them(workplace)
    result = fid(workplace, "--metrics", "density-coverage,inception-score")
    assert "already measured" in result.err
    head, *lines = (re.split(" {2,}", line.strip()) for line in result.out.splitlines())
    assert head[-4:-2] == ["density", "coverage"]
    assert head[-2].startswith("class score (digits classifier "), "FID and IS are Inception's"
    assert all(re.fullmatch(r"[0-9.]+( ± [0-9.]+)?", cell) for cell in lines[0][3:6])
    assert measured(rows(workplace)) == measured(before)
    assert len(ledger(workplace).read_text().splitlines()) == 1 + 3 + 3, "appended"
    lines = ledger(workplace).read_text().splitlines(keepends=True)
    ledger(workplace).write_text("".join(lines[:4]))
    assert "density" not in lines[3].split('"values"')[1]
    for path in sweeps(workplace)[0].glob("features/*.safetensors"):
        path.write_bytes(b"\xff" * 40)  # as damaged as if it were missing
    result = fid(workplace, "--json")
    assert "newer metrics are unknown for 3 checkpoints, whose features were not kept" in result.err
    assert ["density" in row for row in json.loads(result.out)["rows"]] == [False] * 3


def test_numbers_of_an_earlier_version_of_a_metric_are_not_shown(workplace: Path) -> None:
    shutil.rmtree(sweeps(workplace)[0] / "features")
    change_entries(workplace, lambda values: values["metrics"].update({"kernel-distance": 0}))
    (_, line, *_) = fid(workplace).out.splitlines()
    assert len(re.split(" {2,}", line.strip())) == 3, "step, distance and evaluations, but not of an outdated metric"


def test_kept_features_have_a_limit_and_the_newest_stay_longest(workplace: Path) -> None:
    run = Run(workplace / "runs/digits")
    (sweep,) = sweeps(workplace)
    kept = sorted((sweep / "features").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    (sweep / "features" / "notes.txt").write_text("mine")
    size = max(path.stat().st_size for path in kept)
    for count in range(len(kept) - 1, -1, -1):
        make_room(run, size * count)
        assert {path.name for path in (sweep / "features").iterdir()} == {
            *(path.name for path in kept[len(kept) - count :]),
            "notes.txt",
        }
    assert measured(rows(workplace))  # nothing else needs them


def test_scores_are_shown_where_the_run_cannot_be_written(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_an_earlier_version_left_them(workplace)

    def refused(*given: object) -> None:
        raise NcsnxError("cannot write .lock: Read-only file system")

    monkeypatch.setattr(measure, "folder_lock", refused)
    result = fid(workplace).done()
    assert "best" in result.out
    assert "warning: cannot write .lock: Read-only file system" in result.err


def test_a_disk_without_room_for_features_costs_no_score(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise NcsnxError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(distance.atomic, "write_bytes", full)
    distance.save_features(workplace / "step-00000004-00000000.safetensors", {"features": torch.zeros(2, 2)})


@pytest.mark.slow
def test_an_ensemble_averages_the_scores_of_the_last_checkpoints(tmp_path: Path) -> None:
    assert command(*training("ema=none", "--run=plain"), folder=tmp_path).code == 0
    models = [load(tmp_path / "runs/plain", ckpt=step) for step in (8, 12)]
    x = torch.rand(3, 1, 8, 8)
    expected = (models[0].score(x, 1.0) + models[1].score(x, 1.0)) / 2
    assert torch.allclose(mean_score(models)(x, torch.ones(3), {}), expected, rtol=1e-6)

    single = rows(tmp_path, "--range", "12", run="plain")
    result = fid(tmp_path, "--ensemble", "2", run="plain")
    assert "left out, since fewer than 2 checkpoints lead up to them: 4" in result.err
    shown = printed(tmp_path, "--ensemble", "2", run="plain")
    found = shown["rows"]
    assert [row["step"] for row in found] == [8, 12]
    assert found[1]["evaluations"] == 2 * single[0]["evaluations"]
    assert found[1]["score"] != single[0]["score"]
    assert (shown["protocol"]["weights"], shown["protocol"]["ensemble"]) == ("raw", 2)


def test_a_damaged_measurement_is_said_and_measured_again(swept: Path, workplace: Path) -> None:
    ledger = workplace / RUN / "measurements.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([*lines[:-1], b"?" + lines[-1]]))
    said = f"warning: 1 measurement left out: {RUN}/measurements.jsonl, line {len(lines)}: expected a JSON object"
    best = command("sample", "digits", "--ckpt", "best", "--n", "1", *CPU, folder=workplace)
    assert (best.code, said in best.err, "the best of 2 scored" in best.err) == (0, True, True)
    again = fid(workplace)
    assert (again.code, said in again.err, "1 checkpoint (2 more already measured)" in again.err) == (0, True, True)
    assert [row["score"] for row in rows(workplace)] == [row["score"] for row in rows(swept)]


def test_a_damaged_checkpoint_is_left_out_by_name_and_the_others_are_scored(workplace: Path) -> None:
    damage(workplace / RUN / "checkpoints/step-00000008/ema.safetensors")
    result = fid(workplace, "--seed", "1", "--range", "8:12", "--json")
    assert result.code == 1
    assert "step-00000008" in error(result)
    assert "--ckpt" not in result.err, "which fid does not take"
    assert [row["step"] for row in json.loads(result.out)["rows"]] == [12]


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--n", "5"), 2, "--n must be between 10 and 10,000,000, not 5"),
        (("--features", "torchscript:none.pt"), 1, "none.pt"),
        (("--metrics", "densty"), 2, "--metrics 'densty': expected all, or some of frechet-distance, kernel-distance"),
        (("--ensemble", "2"), 2, "--ensemble is for runs without EMA"),  # as in the published code
        (("steps=5",), 2, "only the sampler can"),
    ],
)
def test_what_cannot_be_is_one_clear_line(swept: Path, words: tuple[str, ...], code: int, expected: str) -> None:
    result = command("fid", "digits", *words, *CPU, folder=swept)
    assert result.code == code
    assert expected in error(result)
