"""Names of parameters in messages: for callers of the library, and for users of the command line."""

import threading
from collections.abc import Callable

import pytest
import typer

from ncsnx.cli.session import session
from ncsnx.errors import UsageError, require_between
from ncsnx.sampling.request import SampleRequest
from ncsnx.spelling import A_DIR, argument


def test_python_is_told_what_to_write_in_python_and_a_command_its_options() -> None:
    for name, value, python, option in (
        ("out", None, "out=", "--out"),
        ("device", "auto", "device='auto'", "--device auto"),
        ("count", 0, "count=0", "--count 0"),
        ("overwrite", True, "overwrite=True", "--overwrite"),
        ("data", A_DIR, "data=DIR", "--data DIR"),
        ("name", "digits-2", "name='digits-2'", "--run digits-2"),
    ):
        given = () if value is None else (value,)
        assert argument(name, *given) == python
        with session("then", names={"name": "--run"}):
            assert argument(name, *given) == option


def fail() -> None:
    raise UsageError("a command that fails")


@pytest.mark.parametrize("end", [lambda: None, fail])
def test_what_follows_a_command_speaks_python_again(end: Callable[[], None]) -> None:
    try:
        with session("then"):
            end()
    except typer.Exit:
        pass
    assert argument("out") == "out="


def test_another_thread_speaks_python() -> None:
    said: list[str] = []
    with session("then"):
        thread = threading.Thread(target=lambda: said.append(argument("out")))
        thread.start()
        thread.join()
    assert said == ["out="]


def test_one_refusal_is_spelled_for_its_reader(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"^batch_size must be between 1 and 1,000,000, not 0$"):
        SampleRequest(batch_size=0)
    with pytest.raises(typer.Exit), session("then"):
        require_between("batch_size", 0, 1, 1_000_000)
    assert capsys.readouterr().err == "error: --batch-size must be between 1 and 1,000,000, not 0\n"
