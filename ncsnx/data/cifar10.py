"""CIFAR-10's binary version (Krizhevsky 2009): records of one label byte and 3,072 pixel bytes, red, green, blue.

The Python version of the set is a pickle, and is never read.
"""

from pathlib import Path

import numpy as np
import torch

from ncsnx.config.data import CIFAR10
from ncsnx.data import fingerprint
from ncsnx.data.dataset import Images, InMemory
from ncsnx.data.missing import require, root_of
from ncsnx.data.splits import Splits
from ncsnx.errors import NcsnxError

FOLDER = "cifar-10-batches-bin"
TRAINING_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
RECORD_BYTES = 1 + 3 * 32 * 32
CLASSES = 10
SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz (162 MB), unpack it"


def read_cifar10(data: CIFAR10, folder: Path) -> Splits:
    """CIFAR-10 from `data.root` or the data folder. Raises DataMissingError, and NcsnxError for a damaged file."""
    root = root_of(data, folder, FOLDER)
    if (root / FOLDER).is_dir():  # the folder that the archive was unpacked in was named
        root = root / FOLDER
    names = (*TRAINING_FILES, TEST_FILE)
    for name in names:
        require(root, name, "CIFAR-10", SOURCE)
    files = [root / name for name in names]
    records = [_records(path) for path in files]
    training, test = np.concatenate(records[:-1]), records[-1]
    return Splits(_split(training, first_id=0), _split(test, first_id=len(training)), fingerprint.of_files(root, files))


def _records(path: Path) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise NcsnxError(f"{path}: can't be read: {error.strerror}") from error
    if len(content) == 0 or len(content) % RECORD_BYTES:
        raise NcsnxError(
            f"{path}: expected whole records of {RECORD_BYTES} bytes, found {len(content):,} bytes; get it again"
        )
    records = content.reshape(-1, RECORD_BYTES)
    if int(records[:, 0].max()) >= CLASSES:
        raise NcsnxError(f"{path}: expected labels 0 to 9, found {int(records[:, 0].max())}; get it again")
    return records


def _split(records: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]", first_id: int) -> InMemory:
    pixels = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    return InMemory(Images(pixels, labels, first_id + torch.arange(len(pixels))), value_range=(0, 255))
