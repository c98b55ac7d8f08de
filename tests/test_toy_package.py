"""A package with one extension of each kind, installed by pip, works; the pages on extensions show its files."""

import csv
import json
import os
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ncsnx.config import UNet
from ncsnx.networks import NetworkSpec
from ncsnx.networks.contract import construct
from ncsnx.networks.initialization import initialize
from ncsnx.sampling.sample_folder import samples_in
from ncsnx.space import Space
from tests.cli.command import run_process
from tests.conftest import TOY_PACKAGE
from tests.features.scripted import PooledFeatures, scripted
from tests.forked import REPOSITORY
from tests.training.tiny import CPU

PAGES = "\n".join(page.read_text() for page in sorted((REPOSITORY / "docs" / "adding").glob("*.md")))
CONTRACTS = {
    "tests/samplers/test_conformance.py": ("DPMSolver2S", "DPMSolverPP"),
    "tests/samplers/test_distributions.py": ("dpmpp-2s", "dpmpp"),
    "tests/networks/test_contract.py": ("Plain", "NCSNv2"),
    "tests/data/test_data_sets.py": ("Rings", "Digits"),
    "tests/metrics/test_metrics.py": ("mean-shift", "density-coverage"),
    "tests/inverse/operators/test_contract.py": ("row-sums", "top-half"),
    "tests/inverse/rules/test_contract.py": ("shot", "cg"),
    "tests/cli/test_paths.py": ("steps RUN", "fid RUN"),
}
"""Module of each registry's conformance test → the package's entry, and a built-in entry for comparison."""
LEVELS = ("schedule=power", "schedule.levels=6")
SHORT = ("model=plain", "model.width=4", "data=rings", "checkpoint_every=4", "snapshots=none", "eval_every=4", *CPU)


def test_the_pages_show_its_files() -> None:
    shown = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", PAGES, re.DOTALL))
    assert shown == {path.name: path.read_text() for path in (TOY_PACKAGE / "src").glob("*.py")}
    modules = re.findall('```python\n"""', PAGES)
    assert len(shown) == len(modules), "a module that a page shows in full is one of its files"
    assert sum(text.count("\n") for name, text in shown.items() if name.startswith("two_s_")) <= 40


def test_the_pages_show_its_entry_points() -> None:
    shown: dict[str, dict[str, str]] = defaultdict(dict)
    for text in re.findall(r"```toml\n(.*?)```", PAGES, re.DOTALL):
        for group, entries in tomllib.loads(text)["project"]["entry-points"].items():
            shown[group] |= entries
    assert shown == tomllib.loads((TOY_PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]


def test_its_configurations_need_no_torch(toy: Path) -> None:
    names = sorted(path.stem for path in toy.glob("*_config.py"))
    code = f"import sys, {', '.join(names)}; assert 'torch' not in sys.modules"
    path = os.pathsep.join(map(str, (toy, REPOSITORY)))
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True)


@pytest.mark.slow
def test_each_thing_passes_all_tests_that_a_built_in_one_passes(toy: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    chosen = " or ".join(f"[{name.split()[0]}" for pair in CONTRACTS.values() for name in pair)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NCSNX_", "PYTEST_"))}
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *CONTRACTS, "-p", "no:cacheprovider", "-k", chosen, f"--junitxml={report}"],
        cwd=REPOSITORY,
        env={**environment, "PYTHONPATH": os.pathsep.join(map(str, (toy, REPOSITORY)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    passed = defaultdict(set)
    for case in ElementTree.parse(report).iter("testcase"):
        name, _, thing = case.attrib["name"].removesuffix("]").partition("(")[0].partition("[")
        if not len(case):  # a child element marks a skipped test
            passed[case.attrib["classname"].replace(".", "/") + ".py", thing].add(name)
    for module, (brought, built_in) in CONTRACTS.items():
        assert passed[module, brought] >= passed[module, built_in] > set(), module


@pytest.fixture(scope="module")
def place(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the package's network on its data set."""
    folder = tmp_path_factory.mktemp("place")
    ncsnx(toy, folder, "train", "digits", "steps=8", *LEVELS, *SHORT, "--run", "straight")
    return folder


def ncsnx(toy: Path, folder: Path, *words: str) -> str:
    """Standard output of the command, run as a process."""
    outcome = run_process(folder, *words, python_path=(toy,)).done()
    return outcome.out


@pytest.mark.slow
def test_its_network_resumes_to_the_bit_on_its_data_set(toy: Path, place: Path) -> None:
    ncsnx(toy, place, "train", "digits", "steps=4", *LEVELS, *SHORT, "--run", "resumed")
    ncsnx(toy, place, "train", "digits", "steps=8", *LEVELS, *SHORT, "--run", "resumed")
    for name in ("model", "ema", "optimizer"):
        file = f"checkpoints/step-00000008/{name}.safetensors"
        assert (place / "runs/straight" / file).read_bytes() == (place / "runs/resumed" / file).read_bytes()


@pytest.mark.slow
def test_an_export_of_its_network_draws_the_images_of_the_run(toy: Path, place: Path) -> None:
    ncsnx(toy, place, "export", "straight", "--out", "exported", "--grid", "0", *CPU)
    for source, out in (("straight", "of-run"), ("./exported", "of-export")):
        ncsnx(toy, place, "sample", source, "--n", "2", "--out", out, "sampler=cas", "sampler.steps=3", *CPU)
    one, other = ((place / out / "images/00001.png").read_bytes() for out in ("of-run", "of-export"))
    assert one == other


@pytest.mark.slow
def test_its_data_set_is_planned_for_and_its_held_out_images_are_measured(toy: Path, place: Path) -> None:
    assert "180" in ncsnx(toy, place, "plan", "digits", "data=rings", "--no-timing")
    (row,) = json.loads(ncsnx(toy, place, "loss", "straight", "--range", "latest", "--json", *CPU))["rows"]
    assert row["score"] > 0


@pytest.mark.slow
def test_its_schedule_has_the_levels_that_losses_are_measured_at(toy: Path, place: Path) -> None:
    shown = ncsnx(toy, place, "loss", "straight", "--range", "latest", *CPU)
    assert re.findall(r"at σ=([\d.]+)", shown)[:5] == ["5", "2.08", "0.764", "0.0582", "0.01"]  # (1.26 − 0.148 k)⁷


@pytest.mark.slow
def test_its_metric_is_in_the_table_and_the_rows_of_fid(toy: Path, place: Path) -> None:
    scripted(PooledFeatures(features=5), place / "net.pt")
    words = ("--features", "torchscript:net.pt", "--n", "40", "sampler=cas", "sampler.steps=3")
    shown = ncsnx(toy, place, "fid", "straight", "--range", "latest", "--metrics", "mean-shift", *words, *CPU)
    assert "mean shift" in shown
    (table,) = (place / "runs/straight/fid").glob("*/scores.csv")
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert 0 < float(row["mean_shift"]) < float(row["score"])


@pytest.mark.slow
def test_its_source_makes_a_run_of_a_folder(toy: Path, place: Path) -> None:
    model = UNet(width=8, multipliers=(1, 2), blocks=1, attention=())
    space = attrs.evolve(Space.with_ends((1, 8, 8), (-1.0, 1.0)), sigma_data=0.5)
    network = construct(model, NetworkSpec(space=space, sigmas=(80.0, 0.002)))
    initialize(network, 0)
    (place / "faces").mkdir()
    save_file(network.state_dict(), place / "faces" / "unet.safetensors")
    (place / "faces" / "lab.json").write_text('{"license": "mit", "shape": [1, 8, 8], "width": 8}')
    ncsnx(toy, place, "import", "faces")
    ncsnx(toy, place, "sample", "faces", "--n", "2", "--out", "of-lab", "sampler.steps=2", *CPU)
    assert (place / "of-lab/images/00001.png").exists()


@pytest.mark.slow
def test_its_operator_is_kept_by_samples(toy: Path, place: Path) -> None:
    sums = torch.arange(16.0).view(2, 1, 8) / 4 + 1  # of eight pixels, from 1 to 4.75
    np.save(place / "sums.npy", sums.numpy())
    words = ("--operator", "row-sums", "--input", "sums.npy", "sampler=cas", "sampler.steps=3")
    ncsnx(toy, place, "restore", "straight", "--n", "3", "--out", "drawn", *words, *CPU)
    drawn = samples_in(place / "drawn").read("samples")
    torch.testing.assert_close(drawn.sum(dim=3), sums.repeat_interleave(3, 0), atol=1e-2, rtol=0)


@pytest.mark.slow
def test_its_loss_trains_resumes_and_is_measured(toy: Path, place: Path) -> None:
    words = ("train", "digits", *SHORT, "loss=huber", "loss.delta=0.5", "--run", "robust")
    ncsnx(toy, place, *words, "steps=4")
    ncsnx(toy, place, *words, "steps=8")
    shown = ncsnx(toy, place, "loss", "robust", "--range", "8", "--passes", "1", "--json", *CPU)
    (row,) = json.loads(shown)["rows"]
    assert row["score"] > 0
    assert json.loads((place / "runs/robust/config.json").read_text())["experiment"]["loss"]["type"] == "huber"


@pytest.mark.slow
def test_its_rule_is_offered_and_restores(toy: Path, place: Path) -> None:
    Image.fromarray(255 * np.eye(8, dtype=np.uint8)).save(place / "photo.png")
    words = ("restore", "straight", "--inpaint", "photo.png", "--mask", "0,0,4,4", "--noise", "0.1", *CPU)
    shown = ncsnx(toy, place, *words, "--out", "shot", "--n", "2", "--rule", "shot", "sampler.steps=40", "--json")
    assert json.loads(shown)["task"]["rule"] == "shot"


@pytest.mark.slow
def test_a_comparison_tries_its_sampler_in_as_many_steps_as_the_evaluations_pay_for(toy: Path, workplace: Path) -> None:
    words = ("--samplers", "dpmpp-2s,dpmpp", "--evaluations", "4", "--n", "10", "--seeds", "1", "--json")
    shown = ncsnx(toy, workplace, "compare", "digits", *words, "features.steps=5", "features.width=8", *CPU)
    rows = {row["sampler"]["type"]: row for row in json.loads(shown)["rows"]}
    assert list(rows) == ["ald", "dpmpp-2s", "dpmpp"]
    assert (rows["dpmpp-2s"]["sampler"]["steps"], rows["dpmpp-2s"]["evaluations"]) == (2, 3)
    (plot,) = (workplace / "runs/digits/compare").glob("*/samplers.svg")
    assert "DPM-Solver++ (2S)" in plot.read_text()
