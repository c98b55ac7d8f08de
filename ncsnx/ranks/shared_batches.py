"""The batches of images that each rank of a command makes and saves."""

import zlib
from collections.abc import Iterable, Iterator, Sequence

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
