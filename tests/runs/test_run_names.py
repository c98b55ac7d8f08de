"""Names of runs and steps as typed."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ncsnx.errors import UsageError
from ncsnx.runs.names import check_run_name, near_matches, parse_step, runs_folder, step_name, step_of


def is_plain(name: str) -> bool:
    reserved = re.fullmatch(r"(con|prn|aux|nul|(com|lpt)[1-9])(\..*)?", name.lower())
    return ".." not in name and not name.endswith(".") and reserved is None


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True).filter(is_plain))
def test_plain_names_are_accepted_as_they_are(name: str) -> None:
    assert check_run_name(name) == name


@given(st.text(max_size=120))
@example("")
@example("..")
@example("a/b")
@example("-rf")
@example(".hidden")
@example("name\n")
@example("a\0b")
@example("cіfar")  # a Cyrillic i
@example("run\u202e")
@example("x" * 101)
def test_whatever_is_accepted_is_one_plain_component_of_a_path(text: str) -> None:
    try:
        name = check_run_name(text)
    except UsageError as error:
        complaint = str(error)
    else:
        complaint = ""
        assert Path("runs", name).parts == ("runs", text)
        assert text[0] not in ".-"
        assert len(text) <= 100
        assert text.isascii()
        assert text.isprintable()
    assert complaint.replace("…", "").isascii()
    assert complaint.isprintable()


@pytest.mark.parametrize("bad", ["", "..", "a..b", "a/b", "-rf", ".hidden", "name\n", "a\0b", "cіfar", "x" * 101])
def test_dangerous_names_are_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot name a run"):
        check_run_name(bad)


@given(st.integers(0, 10**12 - 1))
def test_a_step_is_found_again_from_its_folder_and_from_its_number(step: int) -> None:
    assert step_of(step_name(step)) == step
    assert parse_step(str(step)) == step
    assert parse_step(f"{step}k") == 1_000 * step


def test_the_folder_of_a_step_has_eight_digits() -> None:
    assert step_name(150_000) == "step-00150000"


@pytest.mark.parametrize(
    "name",
    [
        "step-150000",
        "step-000150000",
        "step-00150000.unsound-1",
        ".step-00150000.tmp-1-aa",
        "step-0015000x",
        "",
    ],
)
def test_other_folders_are_no_steps(name: str) -> None:
    assert step_of(name) is None


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("150000", 150_000),
        ("150_000", 150_000),
        ("150k", 150_000),
        ("150K", 150_000),
        ("1.5M", 1_500_000),
        ("0.5k", 500),
        ("0", 0),
        ("latest", "latest"),
        ("best", "best"),
    ],
)
def test_steps_can_be_typed_in_several_ways(text: str, step: int | str) -> None:
    assert parse_step(text) == step


@pytest.mark.parametrize("text", ["", "-5", "1.5", "1.2345k", "k", "1e5", "0x10", "١٥٠", "150 k", "9" * 5000, "Latest"])
def test_what_is_no_step_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(UsageError, match="latest or best"):
        parse_step(text)


def test_the_runs_folder_is_the_option_then_the_variable_then_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCSNX_RUNS", raising=False)
    assert runs_folder() == Path("runs")
    monkeypatch.setenv("NCSNX_RUNS", "/elsewhere")
    assert runs_folder() == Path("/elsewhere")
    assert runs_folder("mine") == Path("mine")
    monkeypatch.setenv("NCSNX_RUNS", "")
    assert runs_folder() == Path("runs")


def test_an_unknown_name_gets_its_near_matches_or_what_there_is() -> None:
    assert near_matches("cifar1O", ["cifar10", "bedroom128"]) == "did you mean cifar10?"
    assert near_matches("zzz", ["cifar10", "bedroom128"]) == "known: bedroom128, cifar10"
    assert near_matches("zzz", [f"r{number}" for number in range(30)]).endswith("and 22 more")
