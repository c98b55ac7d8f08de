"""The page on adding a sampler: its example, installed as a package, does what the page says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import REPOSITORY
from tests.cli.test_plugins import install
from tests.training.tiny import CPU

PAGE = (REPOSITORY / "docs" / "adding-a-sampler.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's package is installed."""
    files = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL))
    assert sum(len(text.splitlines()) for text in files.values()) <= 40
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    entry_points = re.sub(r'project\.entry-points\."(.*?)"', r"\1", toml).replace('"', "")
    return install(tmp_path_factory.mktemp("site"), "ncsnx-two-s", entry_points, files)


def python(site: Path, *arguments: str, folder: Path = REPOSITORY) -> str:
    """What `python ARGUMENTS` writes, with the package installed."""
    path = os.pathsep.join(map(str, (site, REPOSITORY)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NCSNX_", "PYTEST_"))}
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_its_configuration_needs_no_torch(site: Path) -> None:
    python(site, "-c", "import sys, two_s_config; assert 'torch' not in sys.modules")


def test_it_passes_the_tests_that_hold_for_every_sampler(site: Path) -> None:
    (command,) = re.findall(r'pytest (tests/\S+) (tests/\S+) -k "(.*)"', PAGE)
    *files, chosen = command
    shown = python(site, "-m", "pytest", "-p", "no:cacheprovider", "-q", *files, "-k", chosen)
    (passed,) = re.findall(r"(\d+) passed", shown)
    # the two distributions, its order; states, batches, sabotage, exact and noisy measurements
    assert int(passed) >= 8


def test_a_comparison_tries_it_in_as_many_steps_as_the_evaluations_pay_for(site: Path, workplace: Path) -> None:
    words = ["--samplers", "dpmpp-2s,dpmpp", "--evaluations", "4", "--n", "10", "--seeds", "1", "--json"]
    judge = ["features.steps=5", "features.width=8"]
    shown = python(site, "-m", "ncsnx", "compare", "digits", *words, *judge, *CPU, folder=workplace)
    rows = {row["sampler"]: row for row in json.loads(shown)}
    assert list(rows) == ["ald", "dpmpp-2s", "dpmpp"]
    assert (rows["dpmpp-2s"]["steps"], rows["dpmpp-2s"]["evaluations"]) == (2, 3)
    (plot,) = (workplace / "runs/digits/compare").glob("*/samplers.svg")
    assert "DPM-Solver++ (2S)" in plot.read_text()
