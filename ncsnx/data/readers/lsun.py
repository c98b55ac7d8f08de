"""LSUN (Yu et al. 2015): one LMDB of encoded pictures for each category and split, in the order of their keys.

As published, `…_train` is the training split and `…_val` the held-out one, and pictures are transformed by resizing the
short side, then a center crop.
"""

import shlex
from functools import partial
from pathlib import Path

import torch

from ncsnx.config.data_sets import LSUN
from ncsnx.data.dataset import Splits
from ncsnx.data.decoding import fitted
from ncsnx.data.lmdb_store import DATA, LmdbStore, damaged, listed_keys
from ncsnx.data.places import fingerprint_of_files, missing_data, root_of
from ncsnx.data.readers.encoded_pictures import EncodedPictures, LmdbPictures, published_split
from ncsnx.data.registry import data_set
from ncsnx.errors import Hint
from ncsnx.work import Work

_FOLDER = "lsun"
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


@data_set(LSUN)
def read_lsun(data: LSUN, folder: Path, work: Work) -> Splits:
    """A category of LSUN from `data.root` or the data folder. Raises DataMissingError; NcsnxError for damaged files."""
    root = root_of(data, folder, _FOLDER)
    names = _require(data, root)
    train, held_out = (_opened(root / name, work) for name in names)
    mark = fingerprint_of_files(root, [root / name / DATA for name in names])
    return Splits(_split(train, data, first_id=0), _split(held_out, data, first_id=len(train.keys)), mark)


def _require(data: LSUN, root: Path) -> list[str]:
    """Names of the LMDBs of training and validation. Raises DataMissingError."""
    names = [f"{data.category}_{split}_lmdb" for split in ("train", "val")]
    missing = [name for name in names if not (root / name / DATA).exists()]
    if missing:
        size = f"{TRAINING_GB[data.category]} GB" if data.category in TRAINING_GB else "up to 43 GB"
        place, addresses = shlex.quote(str(root)), " ".join(f"{SERVER}/{name}.zip" for name in missing)
        archives = shlex.quote(str(root / f"{data.category}_*_lmdb.zip"))
        raise missing_data(
            f"LSUN {data.category}",
            root / missing[0] / DATA,
            Hint(f"download it ({size})", f"wget -c -P {place} {addresses}"),
            Hint("then unpack it", f"unzip -d {place} {archives}"),
        )
    return names


def _opened(folder: Path, work: Work) -> LmdbPictures:
    store = LmdbStore(folder)
    if len(store) == 0:
        raise damaged(store.path, "no entries")
    return LmdbPictures(store, listed_keys(store, fingerprint_of_files(folder, [store.path]), work))


def _split(pictures: LmdbPictures, data: LSUN, first_id: int) -> EncodedPictures:
    places = torch.arange(len(pictures.keys))
    return published_split(pictures, places, partial(fitted, size=data.stored_size), data.stored_size, first_id)
