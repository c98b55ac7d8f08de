"""From a data set's configuration to its files, where they have an address that needs no login."""

from functools import singledispatch
from pathlib import Path

from ncsnx.config.data_sets import CIFAR10, FFHQ, LSUN, CelebA, Data, Digits, OwnData
from ncsnx.data.download.transfer import download
from ncsnx.data.lmdb.lmdb_store import DATA
from ncsnx.data.missing import DataMissingError, root_of
from ncsnx.data.readers import celeba, ffhq
from ncsnx.data.readers.cifar10 import download_cifar10
from ncsnx.data.readers.lsun import download_lsun
from ncsnx.errors import NcsnxError
from ncsnx.work import Work

__all__ = ["download", "download_data"]


@singledispatch
def download_data(data: Data, folder: Path, work: Work) -> Path:
    """Gets a data set; returns the folder that it is in. folder: the data folder.

    A package registers its own with `@download_data.register`. Raises NcsnxError where it can't be had, or not by a
    program: then the error says which files to get, how large they are, and where they belong.
    """
    raise NcsnxError(f"no address is known to download {type(data).__name__} from")


@download_data.register
def _(data: CIFAR10, folder: Path, work: Work) -> Path:
    return download_cifar10(data, folder, work)


@download_data.register
def _(data: LSUN, folder: Path, work: Work) -> Path:
    return download_lsun(data, folder, work)


@download_data.register
def _(data: CelebA, folder: Path, work: Work) -> Path:
    root = root_of(data, folder, celeba.FOLDER)
    has_pictures = (root / celeba.PICTURES).is_dir() or (root / celeba.ARCHIVE).exists()
    if has_pictures and (root / celeba.PARTITION).exists():
        return root
    raise _by_hand(
        "CelebA",
        f"{celeba.ARCHIVE} (1.4 GB, needn't be unpacked) and {celeba.PARTITION} (3 MB)",
        celeba.PAGE,
        f"put both into {root}",
    )


@download_data.register
def _(data: FFHQ, folder: Path, work: Work) -> Path:
    root = root_of(data, folder, ffhq.FOLDER)
    if (root / DATA).exists() or any((root / name).is_dir() for name in (ffhq.LARGE, ffhq.THUMBNAILS)):
        return root
    raise _by_hand(
        "FFHQ",
        f"the folder {ffhq.LARGE} (89 GB), or {ffhq.THUMBNAILS} (2 GB) for 128 px and less",
        ffhq.PAGE,
        f"put it into {root}; `ncsnx data build ffhq {root / ffhq.LARGE} --size {data.image_size} --out {root}` makes "
        "an LMDB of it, which is read faster",
    )


@download_data.register
def _(data: Digits, folder: Path, work: Work) -> Path:
    raise NcsnxError("the digits come with scikit-learn: there is nothing to download")


@download_data.register
def _(data: OwnData, folder: Path, work: Work) -> Path:
    raise NcsnxError(f"{type(data).__name__} is data of your own: there is nothing to download")


def _by_hand(data_set: str, files: str, page: str, place: str) -> DataMissingError:
    return DataMissingError(
        f"{data_set} can't be downloaded by a program, since its servers ask for a login or limit downloads: get "
        f"{files} from {page}, and {place}; if you have it elsewhere, name the folder that holds it with data.root=DIR"
    )
