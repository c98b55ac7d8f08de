"""Strange files in a run: nothing blocks, and no foreign file is removed."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from ncsnx.errors import NcsnxError
from ncsnx.runs.summaries import summaries
from ncsnx.runs.writer_lock import folder_lock
from ncsnx.storage.parts import Part, done_indices, write_part


def part(*indices: int) -> Part:
    return Part(torch.tensor(indices), {"images": torch.zeros(len(indices), 1, 2, 2)})


def fits(indices: list[int], shapes: Mapping[str, list[int]]) -> bool:
    return shapes == {"images": [len(indices), 1, 2, 2]}


def test_a_named_pipe_in_the_place_of_a_configuration_makes_nobody_wait(tmp_path: Path) -> None:
    (tmp_path / "strange").mkdir()
    os.mkfifo(tmp_path / "strange" / "config.json")

    [summary] = summaries(tmp_path)
    name, problem = summary.name, summary.error

    assert name == "strange"
    assert "config.json" in str(problem)
    assert summary.state == "broken"


def test_files_of_another_name_among_the_parts_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"precious")

    assert done_indices(tmp_path, 4, fits) == set()
    assert (tmp_path / "mine.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("indices", [(0, 1000), (-1, 0)])
def test_a_part_with_indices_that_do_not_exist_is_not_done(tmp_path: Path, indices: tuple[int, ...]) -> None:
    write_part(tmp_path, part(0, 1))
    sound = next(iter(tmp_path.iterdir()))
    write_part(tmp_path / "made", part(*indices))
    forged = next(iter((tmp_path / "made").iterdir()))
    forged.replace(tmp_path / "00000002-00000003.safetensors")

    assert done_indices(tmp_path, 4, fits) == {0, 1}
    assert sound.exists()
    assert not (tmp_path / "00000002-00000003.safetensors").exists()


def test_two_samplings_of_one_folder_exclude_each_other(tmp_path: Path) -> None:
    refused = pytest.raises(NcsnxError, match="the folder is being written by process")
    with folder_lock(tmp_path, "the folder"), refused, folder_lock(tmp_path, "the folder"):
        pass
