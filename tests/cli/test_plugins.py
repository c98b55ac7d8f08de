"""Installed packages bring experiments and variants through entry points; a broken one harms nobody else."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cli.command import REPOSITORY, Outcome, run_process
from tests.config.examples import FILE, write_file

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


def ncsnx(here: Path, *arguments: str) -> Outcome:
    return run_process(here, *arguments, python_path=(here / "site",))


def test_an_installed_experiment_is_listed_and_shown_with_its_file(here: Path, lion: Path) -> None:
    rows = {row["name"]: row for row in json.loads(ncsnx(here, "list", "--json").out)["experiments"]}
    assert rows["roaring"]["where"] == "site/lion_experiments.py:4"
    assert len(rows) == 12
    shown = json.loads(ncsnx(here, "show", "roaring", "--origins", "--json").out)
    assert shown["experiment"]["optimizer"] == {
        "type": "lion",
        "lr": 1e-4,
        "weight_decay": 0.0,
        "beta": 0.5,
        "nesterov": False,
    }
    assert shown["origins"]["optimizer.beta"] == "site/lion_experiments.py:10"
    assert shown["origins"]["optimizer.nesterov"] == "default"


def test_a_variant_of_a_plug_in_survives_the_round_trip_and_can_be_typed(here: Path, lion: Path) -> None:
    changed = ncsnx(here, "show", "digits", "optimizer=lion", "optimizer.nesterov=true", "--json")
    assert changed.code == 0
    assert "plug-ins may print" in changed.err, "and it does not spoil the JSON"
    saved = json.loads(changed.out)
    assert saved["experiment"]["optimizer"]["nesterov"] is True
    code = f"""
import sys
from ncsnx.config.codec import SavedExperiment, identity, to_json
from ncsnx.config.converter import structure
saved = {saved!r}
digest = saved.pop("identity")
experiment = structure(saved, SavedExperiment).experiment
assert type(experiment.optimizer).__name__ == "Lion"
assert to_json(experiment) == saved and identity(experiment) == digest
from ncsnx.config import Adam
import attrs
assert identity(attrs.evolve(experiment, optimizer=Adam())) != digest
"""
    file = here / "checks.py"
    file.write_text(f"{code}\nfrom ncsnx.config import register\nregister(experiment)\n")
    outcome = ncsnx(here, "show", "checks.py")
    assert outcome.code == 0, outcome.err


def test_an_own_file_may_import_what_a_plug_in_registers(here: Path, lion: Path) -> None:
    own = here / "experiments" / "own.py"
    own.parent.mkdir()
    own.write_text(f"from lion_config import Lion\n{ROARING.replace('roaring', 'own')}")
    outcome = ncsnx(here, "diff", "own", "roaring")
    assert outcome.code == 0
    assert "1 value differs" in outcome.out


def test_a_run_of_a_plug_in_that_is_gone_says_what_is_missing(here: Path, lion: Path) -> None:
    saved = json.loads(ncsnx(here, "show", "roaring", "--json").out)
    saved.pop("identity")
    folder = here / "runs" / "old"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**saved, "data_fingerprint": "f" * 64}))
    assert ncsnx(here, "show", "runs/old").code == 0
    outcome = run_process(here, "show", "runs/old")
    assert outcome.code == 1
    assert outcome.err == (
        "error: runs/old/config.json: experiment.optimizer: expected one of adam, rmsprop, sgd, found type 'lion'\n"
    )


@pytest.mark.slow
def test_a_run_records_the_package_that_it_needs(here: Path, lion: Path) -> None:
    (lion / "make.py").write_text(
        "from pathlib import Path\n"
        "from ncsnx.config.discovery import resolve\n"
        "from ncsnx.runs.folder import Run\n"
        "from ncsnx.runs.segments import append_segment, read_segments\n"
        "run = Run.create(Path('runs'), 'old', resolve('roaring').experiment, {}, None, 'f' * 64)\n"
        "append_segment(run, from_step=0, runtime={}, changes={})\n"
        "print(*read_segments(run)[0].plugins)\n"
    )
    path = f"{lion}{os.pathsep}{REPOSITORY}"
    made = subprocess.run(
        [sys.executable, str(lion / "make.py")],
        cwd=here,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.splitlines()[-1] == "Plugin(distribution='ncsnx-lion', version='1.0')"
    assert ncsnx(here, "show", "runs/old").code == 0
    assert "found type 'lion'" in run_process(here, "show", "runs/old").err


def test_own_experiments_go_before_installed_ones_and_those_before_built_in_ones(here: Path) -> None:
    for name in ("digits", "extra"):
        text = FILE.replace("NAME", name).replace("width=32", "width=40")
        entry_points = f"[ncsnx.experiments]\n{name} = pack_{name}\n"
        install(here / "site", f"pack-{name}", entry_points, {f"pack_{name}.py": text})
    write_file(here / "experiments" / "extra.py", ("width=32", "width=48"))
    for name, width in (("digits", 40), ("extra", 48)):
        assert json.loads(ncsnx(here, "show", name, "--json").out)["experiment"]["model"]["width"] == width


def test_a_name_that_two_packages_bring_shows_both_places(here: Path) -> None:
    for package in ("one", "two"):
        files = {f"of_{package}.py": FILE.replace("NAME", "twin")}
        install(here / "site", package, f"[ncsnx.experiments]\nx = of_{package}\n", files)
    outcome = ncsnx(here, "show", "twin")
    assert outcome.code == 2
    assert "'twin' is registered twice in installed packages, at " in outcome.err
    assert "site/of_one.py:3" in outcome.err
    assert "site/of_two.py:3" in outcome.err


BROKEN = {
    "an exception": (
        "[ncsnx.config]\nbad = bad_config\n",
        "raise ValueError('no\\n  luck')",
        "bad_config) cannot be loaded: ValueError: no luck",
    ),
    "an exit": (
        "[ncsnx.config]\nbad = bad_config\n",
        "raise SystemExit(0)",
        "(bad_config) cannot be loaded: SystemExit: 0",
    ),
    "a module that is not there": (
        "[ncsnx.config]\nbad = nowhere\n",
        "",
        "(nowhere) cannot be loaded: ModuleNotFoundError:",
    ),
    "a tag that is taken": (
        "[ncsnx.config]\nbad = bad_config\n",
        "from ncsnx.config import SGD, Optimizer, variant\n@variant(Optimizer, 'adam')\nclass Mine(SGD): pass\n",
        "(bad_config) cannot be loaded: ValueError: Optimizer already has a variant 'adam': Adam",
    ),
    "experiments that are not there": (
        "[ncsnx.experiments]\nbad = nowhere\n",
        "",
        "(nowhere) cannot be found: there is no such Python file",
    ),
    "experiments in a package that fails": (
        "[ncsnx.experiments]\nbad = bad_package.experiments\n",
        "",
        "(bad_package.experiments) cannot be found: ZeroDivisionError: division by zero",
    ),
    "experiments that fail": (
        "[ncsnx.experiments]\nbad = bad_config\n",
        "1 / 0\n",
        "site/bad_config.py:1: ZeroDivisionError",
    ),
    "an entry that names no module": ("[ncsnx.experiments]\nbad = not a module!\n", "", "cannot be found: "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plug_in_is_one_clear_row_and_breaks_nothing(case: str, here: Path) -> None:
    entry_points, module, message = BROKEN[case]
    files = {"bad_config.py": module, "bad_package/__init__.py": "1 / 0\n", "bad_package/experiments.py": ""}
    install(here / "site", "ncsnx-bad", entry_points, files)
    listed = ncsnx(here, "list", "--json")
    assert (listed.code, listed.err) == (0, "")
    rows = json.loads(listed.out)["experiments"]
    assert sum(row["error"] is None for row in rows) == 11
    [broken] = [row["error"] for row in rows if row["error"] is not None]
    assert message in broken
    assert len(broken.splitlines()) == 1
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
