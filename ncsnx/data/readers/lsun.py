"""LSUN (Yu et al. 2015): one LMDB of encoded pictures for each category and split, in the order of their keys.

As published, `…_train` is the training split and `…_val` the held-out one, and pictures are transformed by resizing the
short side, then a centre crop.
"""

import hashlib
from pathlib import Path

import attrs
import torch
from PIL import Image

from ncsnx.config.data_sets import LSUN
from ncsnx.data import fingerprint
from ncsnx.data.data_set import data_set
from ncsnx.data.download.command import download_command
from ncsnx.data.download.transfer import download
from ncsnx.data.download.unpacking import require_new, unpack_zip
from ncsnx.data.lmdb.lmdb_building import as_it_is, build
from ncsnx.data.lmdb.lmdb_keys import Keys, listed_keys
from ncsnx.data.lmdb.lmdb_store import DATA, LmdbStore, damaged
from ncsnx.data.missing import missing_data, root_of
from ncsnx.data.pictures.decoding import fitted
from ncsnx.data.readers.encoded_pictures import EncodedPictures
from ncsnx.data.splits import Splits
from ncsnx.errors import Hint, UsageError
from ncsnx.storage.cache import cache_folder
from ncsnx.work import Work

_FOLDER = "lsun"
_TRAINING, _HELD_OUT = "train", "val"
_PAGE = "https://github.com/fyu/lsun"
SERVER = "http://dl.yf.io/lsun/scenes"
"""Server of download.py in PAGE. It has no https, and no checksums are published."""
TRAINING_GB = {
    "bedroom": 43,
    "bridge": 15,
    "church_outdoor": 2,
    "classroom": 3,
    "conference_room": 4,
    "dining_room": 11,
    "kitchen": 33,
    "living_room": 21,
    "restaurant": 13,
    "tower": 11,
}
"""Sizes of the training zips, from the table of PAGE. The validation zips hold 300 pictures."""
KEY_LETTERS = 40


def download_lsun(data: LSUN, folder: Path, work: Work, server: str = SERVER) -> Path:
    """Downloads and unpacks the missing LMDBs of a category; returns their folder. Raises NcsnxError."""
    root = root_of(data, folder, _FOLDER)
    for split in (_HELD_OUT, _TRAINING):  # the small one first
        name = lmdb_name(data.category, split)
        if (root / name / DATA).exists():
            continue
        require_new(root / name)
        archive = root / f"{name}.zip"
        work.info(f"downloading {archive.name} ({size_of(name)}); unpacking temporarily needs as much again")
        download(address(name, server), archive, work)
        unpack_zip(archive, {f"{name}/{DATA}": DATA}, root / name, work)
        archive.unlink(missing_ok=True)
    return root


@data_set(
    LSUN,
    download=download_lsun,
    files=f"the LMDBs of [LSUN]({_PAGE}), training and validation (`data download` does it)",
    place=f"data/{_FOLDER}",
)
def read_lsun(data: LSUN, folder: Path, work: Work) -> Splits:
    """A category of LSUN from `data.root` or the data folder. Raises DataMissingError; NcsnxError for damaged files."""
    root = root_of(data, folder, _FOLDER)
    names = [lmdb_name(data.category, split) for split in (_TRAINING, _HELD_OUT)]
    for name in names:
        if not (root / name / DATA).exists():
            way = Hint(f"download it ({size_of(name)})", download_command(data, folder))
            raise missing_data(f"LSUN {data.category}", root / name / DATA, way)
    train, held_out = (_opened(root / name, work) for name in names)
    mark = fingerprint.of_files(root, [root / name / DATA for name in names])
    return Splits(_split(train, data, first_id=0), _split(held_out, data, first_id=len(train.keys)), mark)


def size_of(name: str) -> str:
    """Size of an LMDB's zip, in words."""
    category, _, split = name.removesuffix("_lmdb").rpartition("_")
    if split == _HELD_OUT:
        return "a few MB"
    return f"{TRAINING_GB[category]} GB" if category in TRAINING_GB else "up to 43 GB"


def build_lsun_lmdb(source: Path, root: Path, category: str, split: str, work: Work) -> Path:
    """Builds the LMDB of a category and split ('train' or 'val') in `root` from a folder or zip of pictures.

    JPEG, PNG and WebP are copied. Other formats, pictures with transparency (which becomes white) and pictures rotated
    by EXIF become PNG. A picture's key is the first 40 hexadecimal digits of its name's sha256. Returns the new folder,
    which is written atomically. Raises NcsnxError, which names all pictures that can't be used.
    """
    if split not in (_TRAINING, _HELD_OUT):
        raise UsageError(f"expected the split {_TRAINING!r} or {_HELD_OUT!r}, found {split!r}")
    folder = root / lmdb_name(category, split)
    build(source, folder, lambda place, name: _key(name), as_it_is, work)
    return folder


def address(name: str, server: str = SERVER) -> str:
    """Address of an LMDB's zip."""
    return f"{server}/{name}.zip"


def lmdb_name(category: str, split: str) -> str:
    """Folder name of a category's split."""
    return f"{category}_{split}_lmdb"


@attrs.frozen
class ResizeAndCrop:
    """Resizes (bilinear, antialiased) until the size is covered, then crops the centre.

    For squares these are torchvision's Resize of the short side, and CenterCrop.
    """

    size: tuple[int, int]
    """(height, width)."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return fitted(image, self.size)


@attrs.frozen(eq=False)
class _Listed:
    """The pictures of an LMDB by the index of their keys."""

    store: LmdbStore
    keys: Keys

    def read(self, place: int) -> bytes:
        content = self.store.get(self.keys[place])
        if content is None:
            raise damaged(self.store.path, f"no entry {self.name(place)}")
        return content

    def name(self, place: int) -> str:
        return f"{self.store.path}: {self.keys[place].decode('ascii', 'backslashreplace')}"


def _opened(folder: Path, work: Work) -> _Listed:
    store = LmdbStore(folder)
    if len(store) == 0:
        raise damaged(store.path, "no entries")
    return _Listed(store, listed_keys(store, fingerprint.of_files(folder, [store.path]), cache_folder(), work))


def _split(pictures: _Listed, data: LSUN, first_id: int) -> EncodedPictures:
    places = torch.arange(len(pictures.keys))
    return EncodedPictures(pictures, places, ResizeAndCrop(data.stored_size), data.stored_size, first_id)


def _key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).hexdigest()[:KEY_LETTERS].encode("ascii")
