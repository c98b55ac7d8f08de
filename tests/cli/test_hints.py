"""Commands to type below an error, each on a line of its own, can be copied."""

from pathlib import Path

import pytest

from ncsnx.cli.retyping import remember, typed_instead, typed_with
from ncsnx.errors import Hint, NcsnxError
from ncsnx.spelling import A_DIR, argument, spelled_by
from tests.cli.command import run


@pytest.mark.parametrize(
    ("typed", "addition", "expected"),
    [
        (["train", "a"], "data.root=DIR", "ncsnx train a data.root=DIR"),
        (["train", "a", "data.root=x y", "steps=3"], "data.root=DIR", "ncsnx train a steps=3 data.root=DIR"),
        (["train", "my run"], "--runs DIR", "ncsnx train 'my run' --runs DIR"),
        (["train", "a", "--runs", "x"], "--runs DIR", "ncsnx train a --runs DIR"),
        (["train", "a", "--runs=x"], "--runs DIR", "ncsnx train a --runs DIR"),
        (
            ["train", "a", "data.range=unbounded", "data.channels=1"],
            "data.complex=true data.range=unbounded data.channels=2",
            "ncsnx train a data.complex=true data.range=unbounded data.channels=2",
        ),
        (["sample", "a", "--runs", "x"], "--overwrite", "ncsnx sample a --runs x --overwrite"),
    ],
)
def test_a_command_is_typed_again_with_an_addition(typed: list[str], addition: str, expected: str) -> None:
    remember(typed)
    assert typed_with(addition) == expected


@pytest.mark.parametrize("option", [["--size", "64"], ["--size=64"]])
def test_a_command_is_typed_again_with_an_addition_in_place_of_an_option(option: list[str]) -> None:
    remember(["data", "show", *option, "my photos"])
    assert typed_instead("--size", "data.image_size=64") == "ncsnx data show 'my photos' data.image_size=64"


def test_an_option_for_an_experiments_own_images_becomes_a_field_where_it_has_one() -> None:
    with_field = run("data", "show", "celeba64", "--size", "32")
    assert "  change the experiment instead:  ncsnx data show celeba64 data.image_size=32\n" in with_field.err
    without = run("plan", "digits", "--on-error", "skip")
    assert "change the experiment" not in without.err
    assert "  for a folder of that name, write ./digits\n" in without.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "digits", "--n", "1.5"], "--n: expected a whole number"),
        (["sample", "digits", "--between", "a", "2"], "--between: expected a whole number"),
        (["plan", "digits", "--overlap", "x"], "--overlap: expected a number"),
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
    typed = f"ncsnx train celeba64 steps=5 --data {tmp_path} --runs {tmp_path / 'runs'}"
    assert point == f"  or say where it is:  {typed} data.root=DIR"
    assert refused.code == 1


def test_an_error_as_text_is_one_line() -> None:
    error = NcsnxError("it is not here", Hint("download it", "ncsnx data download x"), Hint("or say", adds="root=DIR"))

    assert str(error) == "it is not here; download it: ncsnx data download x; or say: root=DIR"
    assert error.message == "it is not here"


@pytest.mark.parametrize(
    ("words", "option", "typed"),
    [
        (("digits", "--steps", "9"), "--steps", "ncsnx train digits steps=9"),
        (("digits", "--batch-size=8", "--run", "x y"), "--batch-size", "ncsnx train digits batch_size=8 --run 'x y'"),
        (("digits", "--optimizer.lr", "1e-3"), "--optimizer.lr", "ncsnx train digits optimizer.lr=1e-3"),
        (("digits", "--data", "x", "--data.root", "y"), "--data.root", "ncsnx train digits --data x data.root=y"),
        (("digits", "--seed"), "--seed", "ncsnx train digits seed=VALUE"),
    ],
)
def test_a_field_that_is_typed_as_an_option_is_shown_as_a_field(
    words: tuple[str, ...], option: str, typed: str
) -> None:
    refused = run("train", *words)

    field = option.removeprefix("--").replace("-", "_")
    assert refused.code == 2
    assert refused.err.splitlines() == [
        f"error: {option} is not an option: {field} is a field of the experiment.",
        f"  type:  {typed}",
    ]
