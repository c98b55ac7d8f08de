"""Results in files that are read as one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ncsnx.errors import NcsnxError
from ncsnx.storage import batch_files
from ncsnx.storage.batch_files import BatchFiles


def written(folder: Path, *ranges: range) -> BatchFiles:
    parts = BatchFiles(folder)
    for indices in ranges:
        parts.add(indices.start, {"x": torch.tensor(list(indices))})
    return parts


def test_files_of_consecutive_indices_are_one_tensor(tmp_path: Path) -> None:
    parts = written(tmp_path, range(4, 6), range(4))
    assert parts.assembled(6)["x"].tolist() == [0, 1, 2, 3, 4, 5]
    assert parts.read("x", first=3, count=2).tolist() == [3, 4]


@pytest.mark.parametrize("ranges", [(), (range(4), range(2, 4), range(6, 8)), (range(4), range(4, 7))])
def test_what_lacks_or_repeats_an_index_is_refused(tmp_path: Path, ranges: tuple[range, ...]) -> None:
    with pytest.raises(NcsnxError, match="instead of 8; remove it and repeat the command"):
        written(tmp_path, *ranges).assembled(8)


def test_a_file_that_cannot_be_read_now_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*path: Any, **options: Any) -> Any:
        raise OSError(5, "Input/output error")

    parts = written(tmp_path, range(4))
    with monkeypatch.context() as patch:
        patch.setattr(batch_files, "safe_open", failing)
        with pytest.raises(NcsnxError, match=r"cannot read .*: Input/output error"):
            parts.prune(4)
    assert parts.missing(4) == []
