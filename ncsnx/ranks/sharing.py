"""What ranks share: the batches of images that each of them makes, and files that one writes and another one reads.

A shared disk shows a new file on other machines after a while.
"""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ncsnx.errors import Hint, NcsnxError
from ncsnx.ranks.rank_group import RankGroup


def own_images(ranks: RankGroup, mark: str, left: Sequence[range], batch_size: int) -> list[int]:
    """The indices of the images of this rank's batches, ascending; the grid of batches doesn't depend on the ranks.

    Batch b holds the images from b · batch_size on and belongs to rank (crc32(mark) + b) mod world, so that the last
    batches of many jobs don't all fall to the same rank. mark: a name of the job. left: indices of all images that are
    to be made, ascending.
    """
    start = zlib.crc32(mark.encode())
    indices = (index for some in left for index in some)
    return [index for index in indices if (start + index // batch_size) % ranks.world == ranks.rank]


def runs_of(indices: Iterable[int]) -> list[range]:
    """Ascending indices as ranges of consecutive ones."""
    runs: list[range] = []
    for index in indices:
        if runs and runs[-1].stop == index:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    return runs


def batches_of(indices: Iterable[int], size: int) -> Iterator[range]:
    """Ascending indices in batches of at most `size` consecutive ones."""
    return (run[start : start + size] for run in runs_of(indices) for start in range(0, len(run), size))


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
