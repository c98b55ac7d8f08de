"""`ncsnx bench` on the digits with a tiny network, also against a stand-in of the published code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ncsnx import benchmarking
from ncsnx.benchmarking import Benchmark, run_benchmark
from ncsnx.runtime import has_fast_bf16
from tests.cli.command import Outcome, run

CHECKOUT = Path(__file__).parents[1] / "benchmarking" / "checkout"
QUICK = ("model.width=4", "--batch-size", "2", "--rounds", "1", "--no-compile", "--threads", "1", "--device", "cpu")


def bench(*words: str) -> Outcome:
    return run("bench", "digits", *QUICK, *words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def measured(folder: Path) -> tuple[Benchmark, Outcome]:
    """One benchmark with everything but compilation, as an object and as `--json` shows it."""
    found: list[Benchmark] = []

    def remember(*arguments: Any) -> Benchmark:
        found.append(run_benchmark(*arguments))
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarking, "run_benchmark", remember)
        outcome = bench("--json", "--against", str(CHECKOUT), "--out", str(folder))
    assert outcome.code == 0, outcome.err
    assert f"this executes the code in {CHECKOUT}" in outcome.err
    return found[0], outcome


@pytest.fixture(scope="module")
def facts(measured: tuple[Benchmark, Outcome]) -> dict[str, Any]:
    return dict(json.loads(measured[1].out))


@pytest.mark.slow
def test_every_execution_is_measured_against_the_published_code(facts: dict[str, Any]) -> None:
    (size,) = facts["sizes"]
    named = {one["name"]: one for one in size["executions"]}
    expected = ["published", "plain", "default", "checkpointing"]
    if has_fast_bf16(torch.device("cpu")):
        expected.append("bf16")
    assert list(named)[: len(expected)] == expected
    assert (size["image_size"], size["batch_size"], size["baseline"], size["pixels"]) == (
        8,
        2,
        "published",
        "the data set",
    )
    assert size["left_out"]["compiled"] == "compilation is off"
    assert facts["complete"] is True
    for one in named.values():
        assert len(one["step_s"]) == len(one["evaluation_s"]) == 1
        assert one["step_images_per_s"] == pytest.approx(2 / one["step_s"][0])
        assert one["step_ratio"]["median"] == pytest.approx(named["published"]["step_s"][0] / one["step_s"][0])
        assert one["step_peak_share"]["median"] > 0
        assert one["step_kernels"] > one["evaluation_kernels"] > 50
        assert sum(one["network_shares"].values()) == pytest.approx(1)
    assert named["plain"]["forward_error"] == {"largest": 0.0, "relative": 0.0}
    for name in ("published", "default"):
        assert named[name]["forward_error"]["largest"] < 2e-5
        assert named[name]["gradient_error"]["largest"] < 2e-5
    saved = {name: one["saved_bytes_per_image"] for name, one in named.items()}
    assert saved["checkpointing"] < saved["default"] < saved["plain"]
    if "bf16" in named:
        assert 1e-4 < named["bf16"]["forward_error"]["relative"] < 0.1


def test_the_time_of_every_sampler_is_estimated(facts: dict[str, Any]) -> None:
    samplers = {one["sampler"]: one for one in facts["sizes"][0]["samplers"]}
    assert samplers["ald"]["own"]
    assert samplers["ald"]["evaluations"] == 121
    assert samplers["ode"]["assumed"]
    (evaluation,) = next(one["evaluation_s"] for one in facts["sizes"][0]["executions"] if one["name"] == "default")
    heun = samplers["heun"]
    assert heun["seconds"] == pytest.approx(500 * heun["evaluations"] * (evaluation + heun["overhead_s"]))


def test_the_numbers_and_a_plot_are_written(facts: dict[str, Any], folder: Path) -> None:
    assert json.loads((folder / "benchmark.json").read_text())["sizes"] == facts["sizes"]
    assert (folder / "time-8px.png").read_bytes().startswith(b"\x89PNG")
    drawn = (folder / "time-8px.svg").read_text()
    assert all(words in drawn for words in ("published", "optimizer, EMA", "of the peak"))


def test_the_table_names_its_columns_and_what_was_left_out(
    measured: tuple[Benchmark, Outcome], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarking, "run_benchmark", lambda *_: measured[0])
    outcome = bench()
    assert outcome.code == 0, outcome.err
    assert "8 px, batches of 2," in outcome.out
    assert "pixels: the data set; median (range) of 1 round; ratios to published" in outcome.out
    titles = outcome.out.split("\n\n")[3].splitlines()[0]
    assert re.split(" {2,}", titles) == [
        "execution",
        "kernels, eval",
        "kernels, step",
        "saved/image",
        "peak memory",
        "peak GFLOP/s",
        "noise, of step",
        "data, of step",
        "forward error",
        "gradient error",
    ]
    assert "compiled was not measured: compilation is off" in outcome.out
    assert "no graphs was not measured: CUDA graphs are on CUDA only" in outcome.out
    assert "Estimated time for 1,000 images in the default execution:" in outcome.out
    assert (here / "bench" / "digits" / "time-8px.png").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "8,x"], "--sizes: expected image sizes up to 4,096 with commas, such as 32,64,128"),
        (["--sizes", "9"], "found 9"),
        (["--against", "."], "not a checkout of the published implementation"),
        (["--rounds", "0"], "--rounds: expected a whole number between 1 and"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: list[str], message: str) -> None:
    outcome = bench(*words)
    assert outcome.code == 2 or (words[0] == "--sizes" and outcome.code == 1)
    assert message in outcome.err
