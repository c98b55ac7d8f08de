"""Mounted file systems, read from Linux's table (`man 5 proc_pid_mountinfo`)."""

import re
from pathlib import Path

import attrs

MOUNT_TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")
"""The kernel writes space, tab, newline, backslash and '#' in octal."""


@attrs.frozen(kw_only=True)
class Mount:
    """A mounted file system."""

    point: Path
    kind: str
    """Type of the file system: ext4, nfs4, lustre, fuse.sshfs …"""
    options: frozenset[str]
    """Options of the mount and of the file system."""


def parse_mounts(table: bytes) -> list[Mount]:
    """The mounts of a table, in its order. Lines of another form are skipped."""
    found = []
    for line in table.split(b"\n"):
        fields = line.split(b" ")
        if b"-" not in fields[6:]:
            continue
        rest = fields[fields.index(b"-", 6) + 1 :]
        if len(rest) < 3 or not fields[4].startswith(b"/"):
            continue
        options = b",".join((fields[5], rest[2])).split(b",")
        found.append(
            Mount(
                point=Path(_text(fields[4])),
                kind=_text(rest[0]),
                options=frozenset(_text(option) for option in options if option),
            )
        )
    return found


def mount_of(path: Path) -> Mount | None:
    """The file system that `path` is on; None where the system has no such table."""
    try:
        mounts, real = parse_mounts(MOUNT_TABLE.read_bytes()), path.resolve()
    except OSError:
        return None
    return innermost(mounts, real)


def innermost(mounts: list[Mount], path: Path) -> Mount | None:
    """The mount with the longest mount point above the absolute `path`; of several there, the last hides the others."""
    above = [mount for mount in mounts if path.is_relative_to(mount.point)]
    return max(reversed(above), key=lambda mount: len(mount.point.parts), default=None)


def _text(field: bytes) -> str:
    whole = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), field)
    return whole.decode("utf-8", "surrogateescape")
