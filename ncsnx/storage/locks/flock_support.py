"""Whether flock works in a folder, and on which machines it holds."""

import errno
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

from ncsnx.config.checks import printable
from ncsnx.errors import Hint, NcsnxError
from ncsnx.storage.locks.mounts import mount_of

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_NFS = frozenset({"nolock", "local_lock=flock", "local_lock=all"})
_LOCAL: Mapping[str, frozenset[str] | None] = {
    "nfs": _NFS,
    "nfs4": _NFS,
    "lustre": frozenset({"localflock", "noflock"}),
    "cifs": frozenset({"nobrl"}),
    "smb3": frozenset({"nobrl"}),
    "fuse.sshfs": None,
}
"""File systems whose flock holds on one machine only, with the options that make it so; None: always.
`man 5 nfs`, `man 8 mount.lustre`, `man 8 mount.cifs`; sshfs leaves locks to the local kernel."""


def one_machine_reason(folder: Path) -> str | None:
    """The reason why flock in `folder` doesn't reach other machines, in words; None where nothing says so."""
    mount = mount_of(folder)
    if mount is None or mount.kind not in _LOCAL:
        return None
    options = _LOCAL[mount.kind]
    found = [] if options is None else sorted(mount.options & options)
    if options is not None and not found:
        return None
    said = printable(" ".join((mount.kind, *found)))
    return f"{printable(str(mount.point))} is mounted so ({said}) that locks hold on one machine only"


def require_flock(path: Path, shown: Path | None = None) -> None:
    """Raises NcsnxError if the file system of the file `path`, which is created, has no flock; else OSError.

    filelock itself would fall back to a lock that outlives killed processes. shown: the folder that the error names, by
    default the file's.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise _no_locks(shown or path.parent, error) from error
    finally:
        os.close(descriptor)


def _no_locks(folder: Path, error: OSError) -> NcsnxError:
    mount = mount_of(folder)  # which need not exist
    kind = "" if mount is None else f" ({printable(mount.kind)} at {printable(str(mount.point))})"
    return NcsnxError(
        f"{folder} cannot be locked, since its file system{kind} has no flock: {error.strerror or error}",
        Hint("choose a folder on another file system, such as a local disk"),
        Hint("or have it mounted with locks: Lustre with the option flock, NFS with a running lock manager"),
    )
