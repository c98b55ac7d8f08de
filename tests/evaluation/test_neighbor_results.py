"""Saved results of a search for neighbours count only if every file is unchanged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.memorizing import Nearness, nearness
from ncsnx.evaluation.neighbor_search import read_results, write_results
from ncsnx.runs.score_files import RESULTS
from ncsnx.storage.documents import sealed_bytes

PROTOCOL = {"measure": "neighbors", "shape": (1, 8, 8), "n": 2}
SPACES = ("pixels", "features")
FILES = ("grid.png", "distances.csv")

Json = dict[str, Any]


def found(is_compared: bool) -> Json:
    """Results of a search, with or without held-out images."""
    measured = attrs.asdict(nearness(torch.rand(4), torch.rand(9)))
    measure = {"median": 1.0, "held_out_median": 2.0, **measured}
    if not is_compared:
        nothing = dict.fromkeys(field.name for field in attrs.fields(Nearness))
        measure = {"median": 1.0, "held_out_median": None, **nothing}
    return {
        "protocol": PROTOCOL,
        "caption": "how",
        "verdict": {"kind": "no sign", "words": "none"} if is_compared else None,
        "spaces": {space: {"distance": measure, "relative": measure} for space in SPACES},
    }


@pytest.fixture(params=[True, False])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Json:
    """Results that were written to `tmp_path`."""
    for name in FILES:
        (tmp_path / name).write_text(name)
    return write_results(tmp_path, found(request.param), FILES)


def read(folder: Path) -> Json | None:
    return read_results(folder, PROTOCOL, SPACES, FILES)


def test_what_was_written_is_read_as_it_is_in_the_file(written: Json, tmp_path: Path) -> None:
    assert read(tmp_path) == written == json.loads((tmp_path / RESULTS).read_text())


def test_nothing_is_read_before_it_is_written(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    with pytest.raises(NcsnxError, match=r"grid.png|results.json"):
        write_results(tmp_path, found(is_compared=True), FILES)


def test_another_protocol_and_other_spaces_and_files_are_not_it(written: Json, tmp_path: Path) -> None:
    assert read_results(tmp_path, {**PROTOCOL, "n": 3}, SPACES, FILES) is None
    assert read_results(tmp_path, PROTOCOL, SPACES[:1], FILES) is None
    assert read_results(tmp_path, PROTOCOL, SPACES, FILES[:1]) is None


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_or_another_is_seen(name: str, written: Json, tmp_path: Path) -> None:
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    assert read(tmp_path) is None
    path.unlink()
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:200],
        lambda content: content.replace(b"1.0", b"1.5", 1),
        lambda content: sealed_bytes({}),
    ],
)
def test_results_that_are_damaged_are_seen(spoil: Callable[[bytes], bytes], written: Json, tmp_path: Path) -> None:
    path = tmp_path / RESULTS
    path.write_bytes(spoil(path.read_bytes()))
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("protocol"),
        lambda content: content.update(verdict="fine" if content["verdict"] is None else None),
        lambda content: content["spaces"]["pixels"]["distance"].update(median="1"),
    ],
)
def test_what_somebody_else_wrote_in_their_form_is_not_taken(
    change: Callable[[Json], object], written: Json, tmp_path: Path
) -> None:
    """The digest is right, but the content is invalid."""
    del written["digest"]
    change(written)
    (tmp_path / RESULTS).write_bytes(sealed_bytes(written))
    assert read(tmp_path) is None
