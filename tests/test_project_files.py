"""Workflows, sessions, hooks, changelog, citation, README and guides agree with the package and each other."""

import contextlib
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ncsnx
from ncsnx.commands.command import built_in_commands
from ncsnx.config import Grid, Sampler
from ncsnx.config.discovery import resolve
from ncsnx.config.variants import variants
from ncsnx.errors import UsageError
from ncsnx.evaluation.memorizing import verdict
from tests.cli.command import run
from tests.docs.execution import write_photographs

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text()


def test_the_workflow_tests_every_python_that_is_claimed_and_the_oldest() -> None:
    claimed = set(re.findall(r"Python :: (3\.\d+)", "\n".join(SETTINGS["project"]["classifiers"])))
    (tested,) = re.findall(r"^ +python: \[(.*)\]$", WORKFLOW, re.M)

    assert claimed <= set(re.findall(r"3\.\d+", tested))
    assert f">={min(claimed, key=lambda version: int(version[2:]))}" == SETTINGS["project"]["requires-python"]


def test_sessions_that_workflows_and_contributing_name_exist() -> None:
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M))
    texts = [WORKFLOW, (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "README.md").read_text()]
    named = {name for text in texts for name in re.findall(r"nox\s+-s\s+(\w+)", text)}

    assert {"docs", "dist"} <= named <= sessions


def test_changelog_and_citation_are_of_this_version_and_address() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()

    assert f"\nversion: {ncsnx.__version__}\n" in citation
    assert re.findall(r"^## \[(?!Unreleased)(.*?)\]", changelog, re.M)[:1] in ([], [ncsnx.__version__])
    address = SETTINGS["tool"]["hatch"]["metadata"]["hooks"]["custom"]["address"]
    assert re.findall(r'^repository-code: "(.*)"$', citation, re.M) == ([address] if address else [])


def test_the_hooks_of_pre_commit_are_the_tools_of_nox() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()

    assert set(re.findall(r'"(ruff.*?)"', hooks)) == set(SETTINGS["dependency-groups"]["lint"])


README = (ROOT / "README.md").read_text()


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.encode()) <= 10_000


def test_the_experiment_shown_is_the_one_that_is_trained() -> None:
    assert (ROOT / "experiments" / "bedroom128.py").read_text() in README


def test_the_command_that_runs_the_tests_is_the_one_that_ci_runs() -> None:
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]

    assert command.endswith("/nox")
    assert f"\n{command}\n" in README


def test_the_readmes_section_on_commands_names_every_command() -> None:
    section = README.split("## Commands")[1].split("## What is missing")[0]
    named = {words.removeprefix("ncsnx ").split()[0] for words in re.findall("`([^`]+)`", section)}

    assert {one.name.partition(" ")[0] for one in built_in_commands()} <= named


def guide(name: str) -> str:
    return (ROOT / "docs/guides" / f"{name}.md").read_text()


def test_the_experiment_of_the_guide_is_the_one_that_is_trained() -> None:
    assert (ROOT / "experiments/bedroom128.py").read_text() in guide("configuration")


def test_the_page_on_versions_lists_the_python_api() -> None:
    page = (ROOT / "docs/project/versions.md").read_text()
    listed = re.search(r"What `ncsnx.__all__` lists: (.*?)\.\n", page, re.S)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == ncsnx.__all__


def test_docstrings_hold_no_markup_of_the_site() -> None:
    texts = {path: path.read_text() for path in (ROOT / "ncsnx").rglob("*.py")}
    assert [path for path, text in texts.items() if ":doc:" in text] == []


def test_an_override_that_is_refused_is_refused_in_the_words_shown() -> None:
    shown = re.findall(r"^\$ ncsnx train (\S+) (.*)\nerror: (.*)$", guide("configuration"), re.M)

    assert len(shown) >= 3
    for name, overrides, message in shown:
        with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
            resolve(name, overrides.split())


@pytest.mark.parametrize("family", [Sampler, Grid])
def test_every_sampler_and_grid_has_a_row(family: type[Any]) -> None:
    rows = re.findall(r"^\| `([a-z-]+)`", guide("samplers"), re.M)

    own = {tag for tag, found in variants(family).items() if found.__module__.startswith("ncsnx.")}
    assert own
    assert own <= set(rows)


def test_what_new_and_pack_write_is_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photographs(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    experiment, packing = (part.split("```")[0] for part in guide("own-images").split("```text\n")[1:])

    new = run("new", "mine", "--from", "photographs", "--no-timing")
    pack = run("data", "pack", "./photographs", "--size", "16", "--out", "photographs.pack")

    assert (new.code, pack.code) == (0, 0)
    assert experiment in (tmp_path / "experiments" / "mine.py").read_text()
    assert packing in pack.out + pack.err


def test_the_verdict_shown_is_in_the_words_of_neighbors() -> None:
    plain = SimpleNamespace(pairs_probability=0.5, tail_probability=0.5, near=SimpleNamespace(high=0.056))
    space: Any = SimpleNamespace(distance=plain, relative=plain)

    assert f"*{verdict({'pixels': space}, 64, 299).words}*" in " ".join(guide("neighbors").split())


def test_the_operator_of_ones_own_measures_what_it_says(trained: Path) -> None:
    blocks = [part.split("```")[0] for part in (ROOT / "docs/adding/operator.md").read_text().split("```python\n")[1:]]
    (block,) = [block for block in blocks if "Task.of_measurement(RowSums(), " in block]
    names: dict[str, Any] = {}
    with contextlib.chdir(trained):
        exec(compile(block, "operator.md", "exec"), names)

    images, truth = names["images"], names["truth"]
    assert images.shape == (8, 1, 8, 8)
    away = images.sum(dim=(1, 3)) - truth.sum(dim=(1, 3)).repeat_interleave(4, 0)
    # a hardly trained network is far from the sums; the last level has a noise of 0.01 too
    assert float(away.abs().max()) < 0.2
    assert not torch.equal(images[0], images[1])
