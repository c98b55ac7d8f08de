"""CIFAR-10, binary version (Krizhevsky 2009): records of one label byte and 3,072 pixel bytes (red, green, blue).

The Python version is a pickle and is never read.
"""

import shlex
import tarfile
from pathlib import Path

import numpy as np
import torch

from ncsnx.bounded_reads import reading
from ncsnx.config.data_sets import CIFAR10
from ncsnx.data.dataset import InMemory, Splits, StoredImages
from ncsnx.data.download import PublishedFile, download
from ncsnx.data.places import fingerprint_of_files, missing_data, root_of
from ncsnx.data.registry import data_set
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage import atomic
from ncsnx.work import SILENT, Work

_FOLDER = "cifar-10-batches-bin"
TRAINING_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAINING_FILES, TEST_FILE)
RECORD_BYTES = 1 + 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""Names of the labels 0 to 9, as in the published `batches.meta.txt`."""
_ARCHIVE = "cifar-10-binary.tar.gz"

PUBLISHED = PublishedFile(f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}", "c32a1d4ab5d03f1284b67883e8d87530")
"""The archive; address and md5 are from https://www.cs.toronto.edu/~kriz/cifar.html."""


def download_cifar10(data: CIFAR10, folder: Path, work: Work, published: PublishedFile = PUBLISHED) -> Path:
    """Downloads and unpacks the archive unless the data set already exists; returns its folder.

    A published archive beside that folder is used instead of downloading it. Raises NcsnxError.
    """
    root = _root(data, folder)
    if all((root / name).exists() for name in FILES):
        return root
    if root.exists():
        raise NcsnxError(f"{root} exists, but lacks files of the data set; remove it, then repeat the command")
    archive = root.parent / _ARCHIVE
    download(published, archive, work)
    with atomic.new_folder(root) as folder, atomic.reporting(root):
        _unpack(archive, folder)
    archive.unlink(missing_ok=True)
    return root


def _unpack(archive: Path, folder: Path) -> None:
    """Writes the six files of the checked archive."""
    with tarfile.open(archive, "r:gz") as tar:
        for name in FILES:
            member = tar.extractfile(f"{_FOLDER}/{name}")
            assert member is not None
            atomic.write_new(folder / name, member.read())


@data_set(CIFAR10, download=download_cifar10)
def read_cifar10(data: CIFAR10, folder: Path, work: Work = SILENT) -> Splits:
    """CIFAR-10 from `data.root` or the data folder. Raises DataMissingError; NcsnxError for damaged files."""
    root = _root(data, folder)
    for name in FILES:
        if not (root / name).exists():
            command = f"ncsnx data download cifar10 {shlex.quote(f'data.root={root}')}"
            raise missing_data("CIFAR-10", root / name, Hint("download it (170 MB)", command))
    files = [root / name for name in FILES]
    records = [_records(path) for path in files]
    training, test = np.concatenate(records[:-1]), records[-1]
    train, held_out = _split(training, first_id=0), _split(test, first_id=len(training))
    return Splits(train, held_out, fingerprint_of_files(root, files), CLASSES)


def _root(data: CIFAR10, folder: Path) -> Path:
    root = root_of(data, folder, _FOLDER)
    # data.root may also name the folder in which the archive was unpacked
    return root / _FOLDER if (root / _FOLDER).is_dir() else root


def _records(path: Path) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    with reading(path):
        content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % RECORD_BYTES:
        raise NcsnxError(
            f"{path}: expected whole records of {counted(RECORD_BYTES, 'byte')}, found "
            f"{counted(len(content), 'byte')}; get it again"
        )
    records = content.reshape(-1, RECORD_BYTES)
    if int(records[:, 0].max()) >= len(CLASSES):
        raise NcsnxError(f"{path}: expected labels 0 to 9, found {int(records[:, 0].max())}; get it again")
    return records


def _split(records: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]", first_id: int) -> InMemory:
    pixels = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    return InMemory(StoredImages(pixels, labels, first_id + torch.arange(len(pixels))), value_range=(0, 255))
