"""A process that fills a folder of samples and tells by how much its peak memory grew while it was finished."""

import resource
import sys
from pathlib import Path

import torch

from ncsnx.sampling import sample_folder

SHAPE, BATCH = (3, 128, 128), 8


def main(path: Path, count: int) -> None:
    """Prints the growth of the resident memory's peak, in bytes."""
    sample_folder.GRID_IMAGES = BATCH
    folder = sample_folder.SampleFolder(path, {"seed": 0}, count=count, shape=SHAPE)
    folder.open()
    for start in range(0, count, BATCH):
        folder.add(range(start, start + BATCH), torch.full((BATCH, *SHAPE), start / count))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder.finish()
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
