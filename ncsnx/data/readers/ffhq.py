"""FFHQ (Karras et al. 2019): an LMDB of encoded pictures at one or more sizes, or the image folders of NVlabs.

The LMDB maps `{size}-{index:05d}` to a picture, and `length` to the number of pictures in digits. Pictures of the LMDB
are read at their size, as published; those of a folder are resized. A rectangle is the center of the square whose side
is its longer one. The split is the published one: the indices are shuffled by NumPy's legacy generator with seed 2019,
and the first 90 % are the training split.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ncsnx.config.data_sets import FFHQ
from ncsnx.config.image_sizes import size_as_words
from ncsnx.data.dataset import Splits
from ncsnx.data.decoding import SUFFIXES, fitted
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.lmdb_store import DATA, LmdbStore, damaged
from ncsnx.data.places import fingerprint_of_files, missing_data, root_of
from ncsnx.data.readers.encoded_pictures import FilePictures, LmdbPictures, published_split
from ncsnx.data.registry import data_set
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted
from ncsnx.work import SILENT, Work

_FOLDER = "ffhq"
LARGE, THUMBNAILS, THUMBNAIL_SIZE = "images1024x1024", "thumbnails128x128", 128
_IMAGES = f"the folder {LARGE} (89 GB), or {THUMBNAILS} (2 GB) for 128 px and less,"
_PAGE = "https://github.com/NVlabs/ffhq-dataset"
LENGTH = b"length"
SPLIT_SEED = 2019
TRAINING_SHARE = 0.9


@data_set(FFHQ)
def read_ffhq(data: FFHQ, folder: Path, work: Work = SILENT) -> Splits:
    """FFHQ from `data.root` or the data folder. Raises DataMissingError; NcsnxError for invalid files.

    An LMDB is preferred to folders. Of the folders, the thumbnails are preferred at 128 px, the large images otherwise.
    """
    root = root_of(data, folder, _FOLDER)
    size = data.stored_size
    side = max(size)
    if (root / DATA).exists():
        store = LmdbStore(root)
        pictures = LmdbPictures(store, np.array([_key(side, place) for place in range(_length(store, side))]))
        split = partial(published_split, pictures, transform=partial(square_center, side=side, size=size))
        count, mark = len(pictures.keys), fingerprint_of_files(root, [store.path])
    else:
        files = ImageFiles.open(_image_folder(root, side))
        split = partial(published_split, FilePictures(files, files.names), transform=partial(shrunk, size=size))
        count, mark = len(files), files.fingerprint
    order = list(range(count))
    np.random.RandomState(SPLIT_SEED).shuffle(order)
    training = int(count * TRAINING_SHARE)
    train, held_out = (
        split(places=torch.tensor(places, dtype=torch.int64), size=size)
        for places in (order[:training], order[training:])
    )
    return Splits(train, held_out, mark)


def square_center(image: Image.Image, side: int, size: tuple[int, int]) -> Image.Image:
    """The center of a square, at `size`, (height, width). Raises ValueError for any other picture than side × side."""
    if image.size != (side, side):
        raise ValueError(f"expected {side}×{side} pixels, found {image.width}×{image.height}")
    return fitted(image, size)


def shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture at `size`, (height, width); see `fitted`. Raises ValueError if it would have to be enlarged."""
    height, width = size
    if image.height < height or image.width < width:
        raise ValueError(f"has {image.width}×{image.height} pixels, fewer than data.image_size={size_as_words(size)}")
    return fitted(image, size)


def _key(size: int, place: int) -> bytes:
    return f"{size}-{place:05d}".encode("ascii")


def _length(store: LmdbStore, size: int) -> int:
    """The number of pictures declared by the LMDB, checked against its entries."""
    declared = store.get(LENGTH)
    if declared is None or not declared.isdigit() or not 2 <= int(declared) < len(store):
        found = "none" if declared is None else repr(declared[:20])
        raise damaged(store.path, f"{counted(len(store), 'entry')} with the 'length' {found}")
    if store.get(_key(size, 0)) is None:
        raise NcsnxError(
            f"{store.path}: expected pictures of {size}×{size} pixels, but there is no entry {_key(size, 0).decode()}",
            Hint("choose another size", adds="data.image_size=N"),
        )
    return int(declared)


def _image_folder(root: Path, size: int) -> Path:
    """The folder of the images: one of NVlabs' folders in `root`, else `root` itself. Raises DataMissingError."""
    names = (THUMBNAILS, LARGE) if size == THUMBNAIL_SIZE else (LARGE, THUMBNAILS)
    for name in names:
        if (root / name).is_dir():
            return root / name
    if not root.is_dir() or not any(entry.is_dir() or entry.suffix.lower() in SUFFIXES for entry in root.iterdir()):
        way = Hint(f"get {_IMAGES} from {_PAGE} and put it into {root}")
        raise missing_data(f"FFHQ at {size} px", root / DATA, way, Hint(f"or put an LMDB of {size}-px images there"))
    return root
