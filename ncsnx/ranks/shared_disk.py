"""Files that one rank writes and another one reads, which a shared disk shows on other machines after a while."""

import time
from collections.abc import Callable
from pathlib import Path

from ncsnx.errors import Hint, NcsnxError
from ncsnx.ranks.rank_group import RankGroup

_SHARED_DISK_S = 75.0
"""Time in seconds after which a shared disk shows a new file on other machines: NFS keeps listings for 60."""
_LOOK_S = 0.2


def wait_for_file(
    path: Path,
    written_by: str,
    ranks: RankGroup,
    check_stop: Callable[[], None],
    *,
    is_seen: Callable[[], bool] | None = None,
) -> None:
    """Returns once this rank sees what another one has written. Raises NcsnxError if it doesn't, on another disk.

    written_by: that rank in words. is_seen: whether it is seen; default: whether `path` exists. check_stop: called
    while it isn't.
    """
    is_seen = path.exists if is_seen is None else is_seen
    limit = time.monotonic() + _SHARED_DISK_S
    while not is_seen():
        check_stop()
        if time.monotonic() > limit:
            raise NcsnxError(
                f"{ranks.name} does not see all of {path} that {written_by} wrote",
                Hint("put it on a disk that all machines share"),
            )
        time.sleep(_LOOK_S)
