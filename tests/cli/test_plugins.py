"""Installed packages bring experiments and variants through entry points; a broken one harms nobody else."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cli.command import run_process
from tests.config.examples import FILE, write_file
from tests.forked import REPOSITORY
from tests.training.tiny import Result

LION = '''\
import attrs

from ncsnx.config import Optimizer, variant

print("plug-ins may print")


@variant(Optimizer, "lion")
@attrs.frozen(kw_only=True)
class Lion(Optimizer):
    """A sign-based optimizer."""

    beta: float = 0.95
    nesterov: bool = False
'''
ROARING = FILE.replace("NAME", "roaring").replace("import Adam,", "import").replace("Adam(lr=1e-3)", "Lion(beta=0.5)")


def install(site: Path, package: str, entry_points: str, files: dict[str, str]) -> Path:
    """A miniature installed package: its files, and a .dist-info with its entry points."""
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
    return site


@pytest.fixture
def lion(here: Path) -> Path:
    """ncsnx-lion: an optimizer and an experiment that uses it."""
    return install(
        here / "site",
        "ncsnx-lion",
        """\
        [ncsnx.config]
        lion = lion_config

        [ncsnx.experiments]
        lion = lion_experiments
        """,
        {"lion_config.py": LION, "lion_experiments.py": f"from lion_config import Lion\n{ROARING}"},
    )


def ncsnx(here: Path, *arguments: str) -> Result:
    return run_process(here, *arguments, python_path=(here / "site",))


def test_an_installed_experiment_is_listed_and_shown_with_its_file(here: Path, lion: Path) -> None:
    rows = {row["name"]: row for row in json.loads(ncsnx(here, "list", "--json").out)["experiments"]}
    assert rows["roaring"]["where"] == "site/lion_experiments.py:4"
    assert len(rows) == 16
    shown = json.loads(ncsnx(here, "show", "roaring", "--origins", "--json").out)
    assert shown["experiment"]["optimizer"] == {
        "type": "lion",
        "lr": 1e-4,
        "weight_decay": 0.0,
        "beta": 0.5,
        "nesterov": False,
    }
    assert shown["origins"]["optimizer.beta"] == "site/lion_experiments.py:4"
    assert shown["origins"]["optimizer.nesterov"] == "default"


def test_a_variant_of_a_plug_in_survives_the_round_trip_and_can_be_typed(here: Path, lion: Path) -> None:
    changed = ncsnx(here, "show", "digits", "optimizer=lion", "optimizer.nesterov=true", "--json").done()
    assert "plug-ins may print" in changed.err, "and it does not spoil the JSON"
    saved = json.loads(changed.out)
    assert saved["experiment"]["optimizer"]["nesterov"] is True
    (here / "saved.json").write_text(changed.out)
    file = here / "checks.py"
    file.write_text("""
import json
from ncsnx.config import Experiment, register
from ncsnx.config.codec import identity
from ncsnx.config.converter import structure
saved = json.load(open("saved.json"))
digest = saved.pop("identity")
experiment = structure(saved["experiment"], Experiment)
assert (type(experiment.optimizer).__name__, identity(experiment)) == ("Lion", digest)
register(experiment)
""")
    ncsnx(here, "show", "checks.py").done()


def test_a_run_records_the_package_that_it_needs_and_says_so_when_that_is_gone(here: Path, lion: Path) -> None:
    (here / "make.py").write_text(
        "from pathlib import Path\n"
        "from ncsnx.config.discovery import resolve\n"
        "from ncsnx.runs.folder import Run\n"
        "from ncsnx.runs.segments import append_segment, read_segments\n"
        "from ncsnx.space import Space\n"
        "roaring = resolve('roaring').experiment\n"
        "run = Run.create(Path('runs'), 'old', roaring, {}, None, 'f' * 64, Space.of(roaring.data))\n"
        "append_segment(run, from_step=0, runtime={}, changes={})\n"
        "print(*read_segments(run)[0].plugins)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{lion}{os.pathsep}{REPOSITORY}"}
    words = [sys.executable, str(here / "make.py")]
    made = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, check=True)
    assert made.stdout.splitlines()[-1] == "Plugin(distribution='ncsnx-lion', version='1.0')"
    assert ncsnx(here, "show", "runs/old").code == 0
    outcome = run_process(here, "show", "runs/old")
    assert outcome.code == 1
    assert outcome.err == (
        "error: runs/old/config.json: experiment.optimizer: expected one of adam, rmsprop, sgd, found type 'lion'\n"
    )


def test_own_experiments_go_before_installed_ones_and_those_before_built_in_ones(here: Path) -> None:
    for name in ("digits", "extra"):
        text = FILE.replace("NAME", name).replace("width=32", "width=40")
        entry_points = f"[ncsnx.experiments]\n{name} = pack_{name}\n"
        install(here / "site", f"pack-{name}", entry_points, {f"pack_{name}.py": text})
    write_file(here / "experiments" / "extra.py", ("width=32", "width=48"))
    for name, width in (("digits", 40), ("extra", 48)):
        assert json.loads(ncsnx(here, "show", name, "--json").out)["experiment"]["model"]["width"] == width


BROKEN = {  # "#" is the number of the package
    "an exception": ("[ncsnx.config]\nbad# = bad#\n", "raise ValueError('no\\n  luck')", "ValueError: no luck;"),
    "a tag that is taken": (
        "[ncsnx.config]\nbad# = bad#\n",
        "from ncsnx.config import SGD, Optimizer, variant\n@variant(Optimizer, 'adam')\nclass Mine(SGD): pass\n",
        "ValueError: Optimizer already has a variant 'adam': Adam",
    ),
    "experiments that are not there": (
        "[ncsnx.experiments]\nbad# = nowhere\n",
        "",
        "cannot be found: there is no such Python file",
    ),
    "experiments that fail": ("[ncsnx.experiments]\nbad# = bad#\n", "1 / 0\n", r"site/bad\d\.py:1: ZeroDivisionError"),
}


def test_broken_plug_ins_are_one_clear_row_each_and_break_nothing(here: Path) -> None:
    for number, (entry_points, module, _) in enumerate(BROKEN.values()):
        files = {f"bad{number}.py": module}
        install(here / "site", f"ncsnx-bad-{number}", entry_points.replace("#", str(number)), files)
    listed = ncsnx(here, "list", "--json")
    assert (listed.code, listed.err) == (0, "")
    rows = json.loads(listed.out)["experiments"]
    assert sum(row["error"] is None for row in rows) == 15
    broken = [row["error"] for row in rows if row["error"] is not None]
    assert len(broken) == len(BROKEN)
    assert all(len(error.splitlines()) == 1 for error in broken)
    for case, (_, _, message) in BROKEN.items():
        assert any(re.search(message, error) for error in broken), (case, broken)
    shown = ncsnx(here, "show", "bedroom128")
    assert (shown.code, shown.err) == (0, "")


def test_a_variant_that_a_broken_plug_in_would_have_brought_shows_its_error(here: Path, lion: Path) -> None:
    (lion / "lion_config.py").write_text("import nothere\n")
    outcome = ncsnx(here, "show", "roaring")
    assert outcome.code == 2
    assert "no experiment is named 'roaring'" in outcome.err
    assert "2 broken files: see `ncsnx list`" in outcome.err
    typed = ncsnx(here, "show", "digits", "optimizer=lion")
    assert typed.code == 2
    assert "optimizer: expected one of adam, rmsprop, sgd, found 'lion'" in typed.err
    assert "the plug-in 'lion' of ncsnx-lion (lion_config) cannot be loaded: ModuleNotFoundError" in typed.err
    assert "repair or uninstall ncsnx-lion" in typed.err
