"""Forged zips."""

import struct
import zipfile
from pathlib import Path

import pytest

from ncsnx.storage.zips import open_zip


def forged(path: Path, members: int) -> Path:
    """A zip with so many members of 47 bytes each in its list, whose end record declares one."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, *[0] * 7, 1, *[0] * 6) + b"a"
    assert len(entry) == 47
    listed = entry * members
    path.write_bytes(listed + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(listed), 0, 0))
    return path


def test_a_list_of_short_members_is_bounded_by_their_number(tmp_path: Path) -> None:
    with forged(tmp_path / "few.zip", 100).open("rb") as file:
        assert len(open_zip(file, 10_000).infolist()) == 100
    told = "its list of members has 101 entries, and the limit for such files is 100"
    with forged(tmp_path / "many.zip", 101).open("rb") as file, pytest.raises(zipfile.BadZipFile, match=told):
        open_zip(file, 10_000)


def test_a_member_may_contain_the_magic_of_a_list_entry(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("list", b"PK\x01\x02" * 1_000)
    with (tmp_path / "a.zip").open("rb") as file, open_zip(file, 10_000) as archive:
        assert len(archive.read("list")) == 4_000
