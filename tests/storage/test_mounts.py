"""The table of mounts, as Linux writes it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncsnx.storage.locks.flock_support import one_machine_reason
from ncsnx.storage.locks.mounts import Mount, innermost, mount_of, parse_mounts

TABLE = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
40 27 0:40 / /home rw,relatime shared:2 - nfs4 nas:/home rw,vers=4.2,hard,local_lock=none,addr=10.0.0.1
41 27 0:41 / /home/old rw - nfs nas:/old rw,vers=3,nolock,local_lock=all,addr=10.0.0.1
42 27 0:42 / /scratch rw,noatime - lustre 10.0.0.2@o2ib:/scratch rw,flock,lazystatfs
43 27 0:43 / /quick rw,noatime - lustre 10.0.0.2@o2ib:/quick rw,localflock
44 27 0:44 / /my\040photos\134\011x rw master:3 propagate_from:2 - fuse.sshfs host:/x rw
45 27 0:45 / /- rw - cifs //nas/x rw,nobrl
"""
TABLE_OF = {
    "/home/me/runs": None,
    "/home/old/runs": "/home/old is mounted so (nfs local_lock=all nolock) that locks hold on one machine only",
    "/home/older": None,
    "/scratch/runs": None,
    "/quick/runs": "/quick is mounted so (lustre localflock) that locks hold on one machine only",
    "/my photos\\\tx/runs": "is mounted so (fuse.sshfs) that locks hold on one machine only",
    "/-/runs": "/- is mounted so (cifs nobrl) that locks hold on one machine only",
    "/tmp": None,
}

# the kernel's names have no NUL, and '/' separates them
names = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
words = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
mounts = st.builds(
    Mount,
    point=st.lists(names, max_size=4).map(lambda parts: Path("/", *parts)),
    kind=words,
    options=st.frozensets(words, min_size=1, max_size=4),
)


def escaped(text: str) -> bytes:
    """A field as the kernel writes it (`mangle` in fs/proc_namespace.c)."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in os.fsencode(text))


def line(mount: Mount, optional: list[str]) -> bytes:
    options = sorted(mount.options)
    fields = ["36", "35", "0:36", "/", str(mount.point), options[0], *optional]
    rest = ["-", mount.kind, "a source", ",".join(options)]
    return b" ".join(escaped(field) for field in (*fields, *rest))


@given(st.lists(st.tuples(mounts, st.lists(st.sampled_from(["shared:1", "master:2", "unbindable"])))))
def test_mounts_are_read_as_the_kernel_writes_them(written: list[tuple[Mount, list[str]]]) -> None:
    table = b"\n".join(line(mount, optional) for mount, optional in written)
    assert parse_mounts(table) == [mount for mount, _ in written]


@given(st.binary() | st.lists(st.sampled_from(TABLE.split(b" ")), max_size=30).map(b" ".join))
def test_no_table_is_an_error(table: bytes) -> None:
    for mount in parse_mounts(table):
        assert mount.point.is_absolute()


@given(st.lists(mounts), st.lists(names, max_size=6))
def test_the_innermost_mount_is_the_longest_above_the_path(found: list[Mount], parts: list[str]) -> None:
    path = Path("/", *parts)
    chosen = innermost(found, path)
    above = [mount for mount in found if mount.point in (path, *path.parents)]
    assert (chosen is None) == (above == [])
    if chosen is not None:
        assert len(str(chosen.point)) == max(len(str(mount.point)) for mount in above)
        assert chosen == [mount for mount in above if mount.point == chosen.point][-1], "the last one is on top"


def test_this_machines_own_table_is_read() -> None:
    root = mount_of(Path("/"))
    assert root is not None
    assert root.point == Path("/")
    proc = mount_of(Path("/proc/self"))
    assert proc is not None
    assert (proc.point, proc.kind) == (Path("/proc"), "proc")


@pytest.mark.parametrize("path", TABLE_OF)
def test_mounts_whose_locks_hold_on_one_machine_are_known(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table").write_bytes(TABLE)
    monkeypatch.setattr("ncsnx.storage.locks.mounts.MOUNT_TABLE", tmp_path / "table")
    found, expected = one_machine_reason(Path(path)), TABLE_OF[path]
    if expected is None:
        assert found is None
    else:
        assert expected in (found or "")
        assert (found or "").isprintable()


def test_a_system_without_a_table_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncsnx.storage.locks.mounts.MOUNT_TABLE", tmp_path / "none")
    assert one_machine_reason(tmp_path) is None
