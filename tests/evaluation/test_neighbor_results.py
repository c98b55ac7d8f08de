"""Saved results of a search for neighbours: read as written, and not at all if anything was changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ncsnx.evaluation.memorizing import compared
from ncsnx.runs.result_records import NeighborRecord, SpaceRecord, Verdict
from ncsnx.runs.score_files import RESULTS
from ncsnx.storage.documents import document_values, find_document, sealed_bytes, write_document

PROTOCOL = {"measure": "neighbors", "shape": (1, 8, 8), "n": 2}

Json = dict[str, Any]


@pytest.fixture(params=[9, 0])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Json:
    """Results in `tmp_path`, with or without held-out images."""
    measure = compared(torch.rand(4), torch.rand(request.param))
    record = NeighborRecord(
        protocol=PROTOCOL,
        caption="how",
        verdict=Verdict("no sign", "none") if request.param else None,
        spaces=dict.fromkeys(("pixels", "features"), SpaceRecord(distance=measure, relative=measure)),
    )
    write_document(tmp_path / RESULTS, record)
    content: Json = json.loads((tmp_path / RESULTS).read_text())
    return content


def read(folder: Path) -> Json | None:
    record = find_document(folder / RESULTS, NeighborRecord)
    return None if record is None else document_values(record)


def test_what_was_written_is_read_as_it_is_in_the_file(written: Json, tmp_path: Path) -> None:
    del written["digest"]
    assert read(tmp_path) == written


def test_nothing_is_read_before_it_is_written(tmp_path: Path) -> None:
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:200],
        lambda content: content.replace(b"how", b"who", 1),
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
