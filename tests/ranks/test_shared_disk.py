"""A rank waits for what another one wrote, on a disk that shows it later."""

import threading
import time
from pathlib import Path

import pytest
import torch

from ncsnx.errors import NcsnxError
from ncsnx.ranks import shared_disk
from ncsnx.ranks.rank_group import RankGroup
from ncsnx.ranks.shared_disk import wait_for_file
from ncsnx.storage.parts import NewParts, Part, write_part


def test_a_rank_goes_on_once_it_sees_the_file_and_heeds_a_stop_meanwhile(tmp_path: Path) -> None:
    asked = []
    path = tmp_path / "late"

    def check_stop() -> None:
        asked.append(path.exists())
        path.touch()

    wait_for_file(path, "rank 0", RankGroup(), check_stop)
    assert asked == [False]


def test_a_file_that_never_shows_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_disk, "_SHARED_DISK_S", 0.1)
    with pytest.raises(NcsnxError, match=r"^rank 0 \(.*\) does not see all of .*never that rank 3 wrote") as caught:
        wait_for_file(tmp_path / "never", "rank 3", RankGroup(), lambda: None)
    assert [hint.label for hint in caught.value.hints] == ["put it on a disk that all machines share"]


def test_the_parts_of_other_ranks_are_waited_for_until_all_are_listed(tmp_path: Path) -> None:
    """The last parts appear after a while, as in an older listing of the folder on another machine."""

    def write(start: int) -> None:
        write_part(tmp_path, Part(torch.arange(start, start + 10), {"values": torch.zeros(10, 1)}))

    def write_late() -> None:
        time.sleep(0.5)
        write(10)
        write(20)

    write(0)
    thread = threading.Thread(target=write_late)
    thread.start()
    wait_for_file(tmp_path, "all ranks", RankGroup(), lambda: None, is_seen=NewParts(tmp_path, 30).are_whole)
    assert len(list(tmp_path.iterdir())) == 3
    thread.join()
