"""Every kind of document is read as it was written, and anything else gives one form of message, or None."""

import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncsnx import bounded_reads
from ncsnx.config.codec import canonical, digest
from ncsnx.config.converter import NewerVersionError, StructureError, optional_of, unstructure
from ncsnx.config.variants import Config, rest_field, version_fields
from ncsnx.data.readers.packed import PackedRecord
from ncsnx.errors import NcsnxError
from ncsnx.storage import atomic
from ncsnx.storage.documents import (
    DOCUMENTS,
    append_document,
    document_bytes,
    document_of,
    find_document,
    parse_document,
    read_document,
    read_document_lines,
)
from ncsnx.storage.process import in_utf8
from tests.storage.frozen import frozen_documents, import_every_module

FROZEN = frozen_documents()
KINDS = list({cls: (cls, json.loads(content)) for _, cls, content in FROZEN}.values())
"""Each kind of document once, with its JSON values."""
Place = tuple[str | int, ...]

each_kind = pytest.mark.parametrize(("cls", "values"), KINDS, ids=[cls.__name__ for cls, _ in KINDS])


def written(values: Any, cls: type) -> bytes:
    """A file of these values, forged with a correct digest where needed."""
    if DOCUMENTS[cls].sealed and isinstance(values, dict):
        values = {key: value for key, value in values.items() if key != "digest"}
        values = {**values, "digest": digest(values)}
    return atomic.json_bytes(values)


def changed(values: Any, place: Place, value: object) -> Any:
    """A copy with the value at a place replaced or added, or, for ..., removed."""
    copy = json.loads(json.dumps(values))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return copy


def complaint(values: Any, cls: type) -> str:
    """The error message, in the form common to all."""
    with pytest.raises(StructureError) as caught:
        parse_document(written(values, cls), cls, "a/file.json")
    said, advice = str(caught.value), DOCUMENTS[cls].advice
    assert said.isprintable()
    assert len(said) < 1_500
    if not isinstance(caught.value, NewerVersionError) and advice:
        assert said.endswith(f"; {advice}")
    return said


def objects(cls: type, values: dict[str, Any], place: Place = ()) -> Iterator[tuple[type, Place]]:
    """The attrs classes inside a document, with their objects' places; configurations are tested elsewhere."""
    yield cls, place
    for field in attrs.fields(cls):
        declared = optional_of(field.type) or field.type
        value = values.get(field.name)
        items: list[tuple[Place, Any, Any]] = [((*place, field.name), declared, value)]
        if get_origin(declared) is tuple and isinstance(value, list):
            items = [((*place, field.name, n), get_args(declared)[0], one) for n, one in enumerate(value)]
        for inside, kind, one in items:
            if attrs.has(kind) and not issubclass(kind, Config) and isinstance(one, dict):
                yield from objects(kind, one, inside)


def in_words(place: Place) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).removeprefix(".")


def fields(cls: type, values: dict[str, Any]) -> Iterator[tuple["attrs.Attribute[Any]", Place]]:
    """Every field that is a JSON key, with its place."""
    for owner, place in objects(cls, values):
        for field in attrs.fields(owner):
            if field.name != rest_field(owner):
                yield field, (*place, field.name)


def test_every_kind_of_document_has_a_frozen_file() -> None:
    import_every_module()
    ours = {cls for cls in DOCUMENTS if cls.__module__.startswith("ncsnx.")}
    assert ours == {cls for _, cls, _ in FROZEN}


@pytest.mark.parametrize(("cls", "content"), [one[1:] for one in FROZEN], ids=[one[0] for one in FROZEN])
def test_a_document_is_read_and_written_again_byte_for_byte(cls: type, content: bytes) -> None:
    found = parse_document(content, cls, "file.json")
    assert parse_document(document_bytes(found), cls, "file.json") == found
    assert content in (
        document_bytes(found),
        json.dumps(unstructure(found)).encode(),
        canonical(unstructure(found)),
    )


@each_kind
def test_a_field_that_is_missing_is_named(cls: type, values: dict[str, Any]) -> None:
    for field, place in fields(cls, values):
        inner = values
        for key in place[:-1]:
            inner = inner[key]
        if field.name not in inner:
            continue
        without = changed(values, place, ...)
        if field.default is attrs.NOTHING:
            said = complaint(without, cls)
            assert said.startswith(f"a/file.json: {in_words(place)}: is required")
            assert ", but missing" in said
        elif place in (("experiment",), ("pretrained",)):  # one of which is there
            assert "must be there, or `pretrained` in its place" in complaint(without, cls)
        else:
            parse_document(written(without, cls), cls, "file.json")


@each_kind
def test_a_newer_version_is_refused_with_what_to_do_whatever_it_holds(cls: type, values: dict[str, Any]) -> None:
    for field in version_fields(cls):
        newer = {key: value for key, value in values.items() if key in {one.name for one in version_fields(cls)}}
        newer |= {field.name: field.default + 1, "unheard": 1}
        said = complaint(newer, cls)
        assert said == (
            f"a/file.json: {field.name}: is {field.default + 1}, newer than this ncsnx reads ({field.default}); "
            "update ncsnx"
        )


def test_long_lived_documents_have_a_version() -> None:
    """Others can be computed again, or last as long as a process."""
    assert {cls.__name__ for cls, _ in KINDS if not version_fields(cls)} == {
        *("DecodedSizes", "PerfectModel", "Roughest", "Scan")  # the version is in their cache key
    }


@each_kind
def test_other_json_and_other_content_are_refused(cls: type, values: dict[str, Any]) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN"):
        with pytest.raises(StructureError, match=r"^file\.json: (expected JSON, but |is damaged: )"):
            parse_document(content, cls, Path("file.json"))
    for other in ([], 3, "text", None, True):
        with pytest.raises(StructureError, match=r"^file\.json: expected an object, found "):
            document_of(other, cls, "file.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@each_kind
@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_garbage_gives_one_message(tmp_path: Path, cls: type, values: dict[str, Any], data: st.DataObject) -> None:
    places = [place for _, place in fields(cls, values)]
    garbage: Any = data.draw(json_values | st.binary(max_size=50))
    if isinstance(garbage, bytes):
        content = garbage
    else:
        key = data.draw(st.sampled_from(places) | st.text(max_size=10).map(lambda key: (key,)))
        try:
            content = written(changed(values, key, garbage) if data.draw(st.booleans()) else garbage, cls)
        except UnicodeEncodeError:
            return  # half a surrogate pair can't be sealed
        except (KeyError, TypeError):
            return  # this document doesn't have the place
    path = tmp_path / "file.json"
    path.write_bytes(content)
    found = find_document(path, cls)
    if found is None:
        with pytest.raises(NcsnxError) as caught:
            read_document(path, cls)
        assert str(caught.value).isprintable()
    else:
        assert read_document(path, cls) == found == parse_document(document_bytes(found), cls, path)


def test_a_missing_unreadable_or_too_large_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(FileNotFoundError):
        read_document(path, PackedRecord)
    assert find_document(path, PackedRecord) is None
    path.write_bytes(b" " * 100)
    with pytest.raises(NcsnxError, match=r"cannot read .*file\.json: it has 100 bytes"):
        read_document(path, PackedRecord, limit=99)
    assert find_document(path, PackedRecord, limit=99) is None
    path.unlink()
    path.symlink_to(tmp_path)
    with pytest.raises(NcsnxError, match=r"cannot read .*file\.json"):
        read_document(path, PackedRecord)


def test_a_small_file_takes_little_memory_whatever_its_limit(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"{}")
    tracemalloc.start()
    try:
        assert bounded_reads.read_bytes(tmp_path / "x.json", 2**30) == b"{}"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_documents_are_stored_one_per_line_and_a_bad_line_is_named(tmp_path: Path) -> None:
    segment = next(parse_document(content, cls, "") for _, cls, content in FROZEN if cls.__name__ == "Segment")
    path = tmp_path / "lines.jsonl"
    assert read_document_lines(path, type(segment)) == []
    append_document(path, segment)
    append_document(path, segment)
    assert read_document_lines(path, type(segment)) == [segment, segment]
    path.write_bytes(path.read_bytes().replace(b'{"started"', b'{"startet": 1, "started"', 1) + b'{"torn')
    told = r"lines\.jsonl, line 1: startet: no such field; did you mean 'started'\?; fix or"
    with pytest.raises(StructureError, match=told):
        read_document_lines(path, type(segment))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_name_that_is_not_utf_8_becomes_text(kind: type[str] | type[Path]) -> None:
    assert in_utf8(kind(os.fsdecode(b"b\xff.png"))) == r"b\xff.png"
    assert in_utf8(kind("ü")) == "ü"
