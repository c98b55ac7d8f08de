"""CIFAR-10 in miniature: the true format, few images."""

import random
from pathlib import Path

FOLDER = "cifar-10-batches-bin"
NAMES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
PER_FILE = 3


def write_cifar10(folder: Path, per_file: int = PER_FILE) -> list[tuple[int, bytes]]:
    """Writes the six files into `folder`; gives (label, 3,072 pixel bytes) of each image, in order."""
    generator = random.Random(7)
    folder.mkdir(parents=True)
    written = []
    for name in NAMES:
        images = [(generator.randrange(10), generator.randbytes(3072)) for _ in range(per_file)]
        (folder / f"{name}.bin").write_bytes(b"".join(bytes([label]) + pixels for label, pixels in images))
        written += images
    return written
