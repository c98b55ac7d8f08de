"""Paths as typed: those that are refused, in one line, and those that are accepted."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ncsnx.errors import UsageError
from ncsnx.paths import checked_folder, checked_name_or_path, checked_path, folder_of

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates and NUL too


def refused_or_parsed(parse: Callable[[str], Path | str], text: str) -> tuple[str | None, Path | str]:
    """(error, result) of parsing the text."""
    try:
        return None, parse(text)
    except UsageError as error:
        return str(error), ""


@pytest.mark.parametrize("parse", [checked_path, checked_folder, checked_name_or_path])
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT | st.lists(TEXT, max_size=4).map("/".join) | TEXT.map("~{}".format))
@example(text="x" * 256)
@example(text="é" * 128)
@example(text="x/" * 5_000)
def test_any_text_is_a_path_or_one_clear_line(text: str, parse: Callable[[str], Path | str], tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        refusal, found = refused_or_parsed(parse, text)
        if refusal is not None:
            assert refusal.isprintable()
            assert len(refusal) < 350
        elif parse is not checked_name_or_path or "/" in text:
            Path(found).exists()  # raises nothing


@given(
    text=st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="/"), min_size=1, max_size=60)
)
def test_ordinary_names_are_taken_as_they_are(text: str) -> None:
    typed = text if text[0] != "~" else f"./{text}"
    assert checked_path(f"somewhere/{text}") == Path(f"somewhere/{text}")
    assert checked_name_or_path(typed) == typed


def test_a_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked_path("~") == tmp_path
    assert checked_path("~/a") == tmp_path / "a"
    assert checked_name_or_path("~/a.py:one") == f"{tmp_path}/a.py:one"
    assert checked_path("a/~") == Path("a/~")


def test_a_bare_name_may_be_of_something_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").symlink_to("digits")
    assert checked_name_or_path("digits") == "digits"
    with pytest.raises(UsageError, match=r"'\./digits' cannot be reached: Too many levels of symbolic links"):
        checked_name_or_path("./digits")


def test_an_option_goes_before_a_variable_and_a_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NCSNX_SOMETHING", "variable")
    assert folder_of("option", "NCSNX_SOMETHING", "default") == Path("option")
    assert folder_of(None, "NCSNX_SOMETHING", "default") == Path("variable")
    monkeypatch.setenv("NCSNX_SOMETHING", "")
    assert folder_of(None, "NCSNX_SOMETHING", "default") == Path("default")
    (tmp_path / "default").write_text("")
    with pytest.raises(UsageError, match=r"^'default' is a file; give a folder$"):
        folder_of(None, "NCSNX_SOMETHING", "default")
