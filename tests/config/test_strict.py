"""The strict converter accepts only what a class declares, and text from files reaches a terminal escaped only."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from ncsnx.config import converter
from ncsnx.config.converter import NewerVersionError, StructureError, structure, unstructure
from ncsnx.config.variants import OMITTED, REST, VERSION

HOSTILE = "[red]\x1b[31m\nerror: fake\u202e\x07"


@attrs.frozen
class Part:
    names: tuple[str, ...] = ()
    pair: tuple[int, float] = (0, 0.0)


@attrs.frozen(kw_only=True)
class Whole:
    version: int = attrs.field(default=3, metadata=VERSION)
    part: Part
    by_name: dict[str, Part] = attrs.field(factory=dict)
    open: dict[str, Any] = attrs.field(factory=dict)
    remark: str | None = attrs.field(default=None, metadata=OMITTED)


@attrs.frozen
class Open:
    complete: bool
    others: dict[str, Any] = attrs.field(metadata=REST)


def complaint(values: object, cls: type = Whole) -> str:
    with pytest.raises(StructureError) as caught:
        structure(values, cls)
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"names": "abc"}, "part.names: expected a list, found text 'abc'"),
        ({"names": ["a", 1]}, "part.names[1]: expected text, found integer 1"),
        ({"pair": [1]}, "part.pair: expected a list of 2 items, found list [1]"),
        ({"pair": [1, "a"]}, "part.pair[1]: expected a finite number, found text 'a'"),
        ([], "part: expected an object, found list []"),
        ({"nams": []}, "part.nams: no such field; did you mean 'names'?"),
    ],
)
def test_what_is_no_list_or_object_is_none(part: object, expected: str) -> None:
    assert complaint({"version": 3, "part": part}) == expected


def test_a_path_leads_through_objects_and_all_problems_are_told() -> None:
    values = {"version": 3, "part": {}, "by_name": {"x": {"names": [1]}, "y z": 2}, "open": 5}
    assert complaint(values) == (
        "by_name.x.names[0]: expected text, found integer 1; by_name.'y z': expected an object, found integer 2; "
        "open: expected an object, found integer 5"
    )


def test_a_field_is_left_out_or_holds_the_rest() -> None:
    assert unstructure(Whole(part=Part())).keys() == {"version", "part", "by_name", "open"}
    assert unstructure(Whole(part=Part(), remark="x"))["remark"] == "x"
    values = {"a": 1, "complete": True, "others": [2]}
    assert structure(values, Open) == Open(True, {"a": 1, "others": [2]})
    assert unstructure(structure(values, Open)) == values
    assert complaint({"a": 1}, Open) == "complete: is required, but missing"


def test_what_stands_beside_the_fields_never_replaces_one() -> None:
    with pytest.raises(ValueError, match=r"^Open\.others contains 'complete', which is another field$"):
        unstructure(Open(True, {"complete": False}))


def test_another_version_is_refused() -> None:
    assert "version: expected 3, found 2" in complaint({"version": 2, "part": {}})
    with pytest.raises(NewerVersionError, match=r"^version: is 4, newer than this ncsnx reads \(3\); update ncsnx$"):
        structure({"version": 4, "anything": "else"}, Whole)
    for number in (0, -1, 1.0, "1", True, None, [1]):
        assert "version: expected 3, found" in complaint({"version": number})


def test_a_newer_part_is_told_as_such_wherever_it_is_and_whatever_else_is_wrong() -> None:
    @attrs.frozen
    class Outer:
        by_name: dict[str, Whole]
        few: tuple[Whole, ...] = ()

    values = {"by_name": {"x": {"version": 3}, "y": {"version": 4, "part": 5}}, "few": [{"version": 9}], "more": 1}
    with pytest.raises(NewerVersionError) as caught:
        structure(values, Outer)
    assert str(caught.value) == (
        "by_name.y.version: is 4, newer than this ncsnx reads (3); few[0].version: is 9, newer than this ncsnx reads "
        "(3); update ncsnx"
    )


def test_of_very_many_problems_a_few_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(converter, "get_close_matches", lambda word, *_, **__: compared.append(word) or ["names"])
    said = complaint({f"name{number}": 1 for number in range(20_000)}, Part)
    assert len(compared) <= 21, "each takes time"
    assert said.count("; did you mean 'names'?") <= 20


HOSTILE_VALUES: dict[str, Callable[[str], object]] = {
    "key": lambda text: {"version": 3, "part": {text: 1}},
    "key of an object": lambda text: {"version": 3, "part": {}, "by_name": {text: 5}},
    "value": lambda text: {"version": 3, "part": {"names": [{"a": text}]}},
    "text": lambda text: {"version": 3, "part": text},
    "version": lambda text: {"version": text},
    "keys": lambda text: {"version": 3, "part": {f"{text[:100]}{number}": 1 for number in range(10_000)}},
    "top": lambda text: text,
}


@pytest.mark.parametrize("place", HOSTILE_VALUES)
@pytest.mark.parametrize("text", [HOSTILE, "x" * 10**6, "\u2066" * 300, ""], ids=["escapes", "long", "bidi", "empty"])
def test_what_a_file_brings_into_a_message_is_escaped_and_cut(place: str, text: str) -> None:
    said = complaint(HOSTILE_VALUES[place](text))
    assert said.isprintable()
    assert len(said) < 1_500
