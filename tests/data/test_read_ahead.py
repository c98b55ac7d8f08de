import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from ncsnx.data.read_ahead import read_ahead
from ncsnx.errors import Hint, NcsnxError

REPOSITORY = Path(__file__).parents[2]


HINT = Hint("download it", "ncsnx data download digits")


def square(number: int) -> int:
    return number * number


def refuse(bad: int, number: int) -> int:
    if number == bad:
        raise NcsnxError(f"picture {number} is broken\nin two lines")
    return number


def give_up(number: int) -> int:
    raise NcsnxError("it is missing", HINT)


def fail(number: int) -> int:
    raise ZeroDivisionError("a bug")


def die(number: int) -> int:
    os._exit(3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_values_come_in_the_order_of_the_keys(workers: int) -> None:
    keys = [5, 0, 5, *range(40)]
    assert list(read_ahead(square, keys, workers)) == [square(key) for key in keys]
    assert list(read_ahead(square, [], workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_keeps_its_message_and_comes_after_earlier_values(workers: int) -> None:
    read = read_ahead(partial(refuse, 4), range(9), workers)
    assert [next(read) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(NcsnxError) as caught:
        next(read)
    assert str(caught.value) == "picture 4 is broken\nin two lines"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_keeps_its_hints(workers: int) -> None:
    with pytest.raises(NcsnxError) as caught:
        list(read_ahead(give_up, [1], workers))
    assert (caught.value.message, caught.value.hints) == ("it is missing", (HINT,))


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="in fail"):
        list(read_ahead(fail, [1], workers=1))


def test_a_dead_worker_is_one_line() -> None:
    with pytest.raises(NcsnxError, match=r"a data worker has died .*workers="):
        list(read_ahead(die, [1], workers=1))


@pytest.mark.parametrize("read", ["fail", "die"])
def test_a_process_ends_after_an_unhandled_error(read: str) -> None:
    program = f"from tests.data.test_read_ahead import *\nfor _ in read_ahead({read}, range(9), workers=2): pass"
    finished = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, timeout=60)
    assert finished.returncode == 1
