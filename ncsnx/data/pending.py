"""CelebA, LSUN and FFHQ: what must be on the disk for them. ncsnx doesn't read them yet, and says so."""

from pathlib import Path
from typing import NoReturn

from ncsnx.config.data import FFHQ, LSUN, CelebA, DataOnDisk
from ncsnx.data.missing import require, root_of
from ncsnx.errors import NcsnxError


def check_celeba(data: CelebA, folder: Path) -> NoReturn:
    """Looks for the aligned images and the list of the split. Raises in every case."""
    root = root_of(data, folder, "celeba")
    page = "from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    require(root, "img_align_celeba", "CelebA", f"img_align_celeba.zip (1.4 GB) {page}, unpack it")
    require(root, "list_eval_partition.txt", "CelebA's split", f"list_eval_partition.txt {page}")
    _found("CelebA", root, data)


def check_lsun(data: LSUN, folder: Path) -> NoReturn:
    """Looks for the LMDBs of the category. Raises in every case."""
    root = root_of(data, folder, "lsun")
    for split in ("train", "val"):
        name = f"{data.category}_{split}_lmdb"
        source = f"{name}.zip with the downloader of https://github.com/fyu/lsun, unpack it"
        require(root, f"{name}/data.mdb", f"LSUN's {data.category} ({split})", source)
    _found(f"LSUN's {data.category}", root, data)


def check_ffhq(data: FFHQ, folder: Path) -> NoReturn:
    """Looks for the LMDB. Raises in every case."""
    root = root_of(data, folder, "ffhq")
    source = f"the {data.image_size}-pixel images of FFHQ (https://github.com/NVlabs/ffhq-dataset) as an LMDB"
    require(root, "data.mdb", f"FFHQ at {data.image_size} px", source)
    _found("FFHQ", root, data)


def _found(name: str, root: Path, data: DataOnDisk) -> NoReturn:
    raise NcsnxError(
        f"{name} is at {root}, but this version of ncsnx doesn't read {type(data).__name__} yet; "
        "it reads digits and CIFAR-10 (`ncsnx list`)"
    )
