"""Commands to type below an error, each on a line of its own, can be copied."""

from pathlib import Path

import pytest

from ncsnx.cli.retyping import remember, typed_with
from ncsnx.errors import Hint, NcsnxError
from tests.cli.command import run


@pytest.mark.parametrize(
    ("typed", "addition", "expected"),
    [
        (["train", "a"], "data.root=DIR", "ncsnx train a data.root=DIR"),
        (["train", "a", "data.root=x y", "steps=3"], "data.root=DIR", "ncsnx train a steps=3 data.root=DIR"),
        (["train", "my run"], "--runs DIR", "ncsnx train 'my run' --runs DIR"),
        (["train", "a", "--runs", "x"], "--runs DIR", "ncsnx train a --runs DIR"),
        (["train", "a", "--runs=x"], "--runs DIR", "ncsnx train a --runs DIR"),
        (["sample", "a", "--runs", "x"], "--overwrite", "ncsnx sample a --runs x --overwrite"),
    ],
)
def test_a_command_is_typed_again_with_an_addition(typed: list[str], addition: str, expected: str) -> None:
    remember(typed)
    assert typed_with(addition) == expected


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
