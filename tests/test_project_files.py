"""Workflows, nox sessions, pre-commit hooks, changelog and citation agree with the package and each other."""

import re
import tomllib
from pathlib import Path

import ncsnx
from ncsnx.commands.command import built_in_commands

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


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.encode()) <= 10_000


def test_the_experiment_shown_is_the_one_that_is_trained() -> None:
    assert (ROOT / "experiments" / "bedroom128.py").read_text() in README


def test_the_command_that_runs_the_tests_is_the_one_that_ci_runs() -> None:
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]

    assert command.endswith("/nox")
    assert f"\n{command}\n" in README


def test_its_section_on_commands_names_every_command() -> None:
    section = README.split("## Commands")[1].split("## Questions")[0]
    named = {words.removeprefix("ncsnx ").split()[0] for words in re.findall("`([^`]+)`", section)}

    assert {one.name.partition(" ")[0] for one in built_in_commands()} <= named


def test_pictures_and_files_that_it_names_exist() -> None:
    names = [part.split(")")[0].partition("#")[0] for part in README.split("](")[1:] if not part.startswith("http")]

    assert "docs/images/samples.png" in names
    assert [name for name in names if not (ROOT / name).is_file()] == []
