"""Parameters that name a file or a folder, found from the app: what no path can be gets one line and exit code 2."""

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import typer

from ncsnx.cli import app
from ncsnx.cli.running import typed_parameters
from ncsnx.commands import values
from ncsnx.commands.command import Parameter, built_in_commands, plugin_commands
from tests.cli.command import run
from tests.training.tiny import Result

ODD = ("a\nb", "x" * 300, "~nobody-of-this-name/x", "a\ud800b", "a\0b", "", "./loop", "./file/x")
_SPEAKS_OF_A_PLACE = re.compile(r"\b(DIR|FILE|FOLDER|PATH|ROOT|PICTURE|SOURCE|SET|RUN|EXPERIMENT)\b")


PARSERS = (values.path, values.folder, values.name_or_path, values.file_behind_tag)


@attrs.frozen
class Word:
    """One parameter of one command."""

    command: tuple[str, ...]
    parameter: Parameter

    @property
    def name(self) -> str:
        """An option as it is typed, an argument as the usage calls it."""
        options = self.parameter.options
        return options[0] if options else str(self.parameter.declaration.metavar)

    def cli_name(self, text: str) -> list[str]:
        """The words that give it the value."""
        value = f"torchscript:{text}" if self.parameter.declaration.parse is values.file_behind_tag else text
        return [f"{self.name}={value}"] if self.parameter.options else [value]


BUILT: Any = typer.main.get_command(app)  # once: it takes longer than all that is tried below
COMMANDS = {
    command: [Word(command, parameter) for parameter in typed_parameters(one.kind)]
    for one in (*built_in_commands(), *plugin_commands()[0])
    for command in [tuple(one.name.split())]
}
PATHS = [word for words in COMMANDS.values() for word in words if word.parameter.declaration.parse in PARSERS]


def words(word: Word, text: str) -> list[str]:
    """A command line with `text` for the parameter, and some word for what must be given besides."""
    given = list(word.command)
    for other in COMMANDS[word.command]:
        if other == word:
            given += other.cli_name(text)
        elif other.parameter.default is ...:
            given += other.cli_name("digits")
    return given


def quick(capsys: pytest.CaptureFixture[str], *typed: str) -> Result:
    """The command in this process, with an app that is built once."""
    with pytest.raises(SystemExit) as ended:
        BUILT(list(typed))
    return Result(int(str(ended.value.code)), *capsys.readouterr())


@pytest.fixture
def place(here: Path) -> Path:
    """A folder with a loop of links and a file."""
    (here / "loop").symlink_to("loop")
    (here / "file").write_text("")
    return here


def require_refused(outcome: Result, folder: Path) -> None:
    """One short line without control characters, exit code 2, and nothing made."""
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.endswith("\n")
    assert outcome.err[:-1].isprintable()
    assert len(outcome.err) < 300
    assert {path.name for path in folder.iterdir()} == {"file", "loop"}


def test_parameters_are_found() -> None:
    assert len(COMMANDS) > 15
    assert len(PATHS) > 60
    assert {one.name for one in PATHS} >= {"--runs", "--data", "--cache", "--out", "--features", "RUN", "EXPERIMENT"}


def test_whatever_names_a_place_is_checked_as_one() -> None:
    others = [word for words in COMMANDS.values() for word in words if word not in PATHS]
    assert {
        word.name for word in others if not word.parameter.options and _SPEAKS_OF_A_PLACE.search(word.name)
    } == set()
    kinds = {word.name for word in others if "Path" in str(word.parameter.type)}
    assert kinds == {"--maps"}  # which take a word too


@pytest.mark.parametrize("word", PATHS, ids=lambda one: " ".join((*one.command, one.name)))
def test_what_no_path_can_be_is_one_line(word: Word, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ODD:
        outcome = quick(capsys, *words(word, text))
        require_refused(outcome, place)
        assert f"{word.name}: " in outcome.err


@pytest.mark.parametrize(
    ("variable", "command"),
    [("NCSNX_RUNS", "list"), ("NCSNX_DATA", "data check cifar10"), ("NCSNX_CACHE", "reference digits")],
)
def test_variables_of_the_environment_are_read_in_the_same_way(
    variable: str, command: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, ODD[0])
    outcome = run(*command.split())
    require_refused(outcome, place)
    assert f"{variable}: " in outcome.err
    monkeypatch.setenv(variable, "file")
    assert f"error: {variable}: 'file' is a file; give a folder" in run(*command.split()).err
