"""Commands to type below an error, each on a line of its own, can be copied."""

from pathlib import Path

import pytest

from ncsnx.errors import Hint, NcsnxError
from ncsnx.spelling import A_DIR, argument, spelled_by
from tests.cli.command import run


def test_an_option_for_an_experiments_own_images_becomes_a_field_where_it_has_one() -> None:
    with_field = run("data", "show", "celeba64", "--size", "32")
    assert "  change the experiment instead:  data.image_size=32\n" in with_field.err
    without = run("plan", "digits", "--on-error", "skip")
    assert "change the experiment" not in without.err
    assert "  for a folder of that name, write ./digits\n" in without.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "digits", "--between", "a"], "--between: must be a valid integer"),
        (["data", "show", "x", "--on-error", "maybe"], "--on-error: 'maybe' is not one of 'refuse', 'skip'"),
    ],
)
def test_a_value_that_typer_refuses_is_explained_in_plain_words(words: list[str], message: str) -> None:
    refused = run(*words)
    assert (refused.code, refused.err) == (2, f"error: {message}\n")


def test_an_argument_is_quoted_for_the_shell_in_a_command_and_for_python_elsewhere() -> None:
    assert argument("features", "torchscript:my net.pt") == "features='torchscript:my net.pt'"
    with spelled_by(lambda name: f"--{name}"):
        assert argument("features", "torchscript:my net.pt") == "--features 'torchscript:my net.pt'"
        assert argument("out", A_DIR) == "--out DIR"


def test_hints_stand_below_the_message_with_their_commands_in_one_column(tmp_path: Path) -> None:
    refused = run("train", "celeba64", "steps=5", "--data", str(tmp_path), "--runs", str(tmp_path / "runs"))

    message, get, point = refused.err.splitlines()
    assert message == f"error: CelebA is not here: {tmp_path}/celeba/img_align_celeba.zip is missing."
    assert get.startswith("  get img_align_celeba.zip")
    assert point == "  or say where it is:  data.root=DIR"
    assert refused.code == 1


def test_an_error_as_text_is_one_line() -> None:
    error = NcsnxError("it is not here", Hint("download it", "ncsnx data download x"), Hint("or say", adds="root=DIR"))

    assert str(error) == "it is not here; download it: ncsnx data download x; or say: root=DIR"
    assert error.message == "it is not here"
