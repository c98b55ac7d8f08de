"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): 28×28 pixels, one channel, in four files.

They are IDX files, gzipped or not: two zero bytes, the type of the values (8 for unsigned bytes), the number of
dimensions and, big-endian, the length of each; then the values.
"""

import gzip
import math
import shlex
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ncsnx import bounded_reads
from ncsnx.config.data_sets import MNIST, FashionMNIST
from ncsnx.config.feature_networks import Classifier
from ncsnx.config.variants import tag_of
from ncsnx.data.dataset import InMemory, Splits, StoredImages
from ncsnx.data.download import PublishedFile, download
from ncsnx.data.places import fingerprint_of_bytes, missing_data, root_of
from ncsnx.data.registry import data_set
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted, product
from ncsnx.work import SILENT, Work

CLASSES: dict[type[MNIST], str] = {
    MNIST: "0,1,2,3,4,5,6,7,8,9",
    FashionMNIST: "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot",
}
"""Names of the labels 0 to 9."""
_IMAGES, _LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"
_MOST_IMAGES = 60_000
_SIDE = 28


def download_mnist(data: MNIST, folder: Path, work: Work) -> Path:
    """Downloads the files that are missing, and returns their folder. Raises NcsnxError."""
    from torchvision import datasets  # type: ignore[import-untyped]

    root, published = _root(data, folder), getattr(datasets, type(data).__name__)
    for name, md5 in published.resources:
        if not _path(root, name.removesuffix(".gz")).exists():
            download(PublishedFile(published.mirrors[0] + name, md5), root / name, work)
    return root


@data_set(FashionMNIST, features=Classifier(), download=download_mnist)
@data_set(MNIST, features=Classifier(), download=download_mnist)
def read_mnist(data: MNIST, folder: Path, work: Work = SILENT) -> Splits:
    """The images from `data.root` or the data folder. Raises DataMissingError; NcsnxError for damaged files."""
    root, tag = _root(data, folder), str(tag_of(type(data)))
    for path in (_path(root, name.format(part)) for part in ("train", "t10k") for name in (_IMAGES, _LABELS)):
        if not path.exists():
            command = f"ncsnx data download {tag} {shlex.quote(f'data.root={root}')}"
            raise missing_data(f"The data set {tag}", path, Hint("download it (11 to 30 MB)", command))
    train = _split(root, "train", first_id=0)
    held_out = _split(root, "t10k", first_id=len(train))
    values = [of for split in (train, held_out) for of in (split.images.pixels, split.images.labels)]
    mark = fingerprint_of_bytes(tag, *(of.numpy().tobytes() for of in values))  # the same whether gzipped or not
    return Splits(train, held_out, mark, tuple(CLASSES[type(data)].split(",")))


def _root(data: MNIST, folder: Path) -> Path:
    root = root_of(data, folder, str(tag_of(type(data))))
    by_torchvision = root / type(data).__name__ / "raw"
    return by_torchvision if by_torchvision.is_dir() else root


def _path(root: Path, name: str) -> Path:
    return root / name if (root / name).exists() else root / f"{name}.gz"


def _split(root: Path, part: str, first_id: int) -> InMemory:
    images, labels = (_path(root, name.format(part)) for name in (_IMAGES, _LABELS))
    pixels, classes = torch.from_numpy(_values(images, (_SIDE, _SIDE))), torch.from_numpy(_values(labels, ()))
    if len(pixels) != len(classes) or int(classes.max()) > 9:
        found = f"{counted(len(classes), 'label')} of up to {int(classes.max())} for {counted(len(pixels), 'image')}"
        raise NcsnxError(f"{labels}: expected a label from 0 to 9 for each image, found {found}; get it again")
    ids = first_id + torch.arange(len(pixels))
    return InMemory(StoredImages(pixels.unsqueeze(1), classes.long(), ids), value_range=(0, 255))


def _values(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(n, *shape): the values of an IDX file. Raises NcsnxError. No more is read than the largest valid file holds."""
    head, size = 8 + 4 * len(shape), math.prod(shape)
    try:
        with bounded_reads.opened(path) as file:
            unpacked = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            content = unpacked.read(head + _MOST_IMAGES * size + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise NcsnxError(f"{path}: cannot be read: {reason}; get it again") from error
    magic, *lengths = struct.unpack(f">{head // 4}I", content[:head].ljust(head, b"\0"))
    is_idx = magic == 0x801 + len(shape)
    if not is_idx or lengths[1:] != [*shape] or len(content) != head + lengths[0] * size or lengths[0] == 0:
        found = f"{product(lengths)} of them in {counted(len(content), 'byte')}" if is_idx else "another file"
        expected = f"an IDX file of up to {product([f'{_MOST_IMAGES:,}', *shape])} unsigned bytes"
        raise NcsnxError(f"{path}: expected {expected}, found {found}; get it again")
    return np.frombuffer(content, np.uint8, offset=head).reshape(lengths).copy()
