"""CelebA, LSUN and FFHQ: what must be on the disk for them. ncsnx doesn't read them yet, and says so."""

from pathlib import Path
from typing import NoReturn

from ncsnx.config.data import FFHQ, LSUN, CelebA, DataOnDisk
from ncsnx.data.missing import require, root_of
from ncsnx.errors import NcsnxError


def check_celeba(data: CelebA, folder: Path) -> NoReturn:
    """Looks for the aligned images and the list of the split. Raises in every case."""
    root = root_of(data, folder, "celeba")
    source = "img_align_celeba.zip (1.4 GB), unpacked, and list_eval_partition.txt from the CelebA page"
    require(root / "img_align_celeba", "CelebA's images", f"{source} (mmlab.ie.cuhk.edu.hk/projects/CelebA.html)", data)
    require(root / "list_eval_partition.txt", "CelebA's split", "it from the same page as the images", data)
    _found("CelebA", root, data)


def check_lsun(data: LSUN, folder: Path) -> NoReturn:
    """Looks for the LMDBs of the category. Raises in every case."""
    root = root_of(data, folder, "lsun")
    for split in ("train", "val"):
        name = f"{data.category}_{split}_lmdb"
        source = f"{name}.zip with the LSUN downloader (https://github.com/fyu/lsun) and unpack it"
        require(root / name / "data.mdb", f"LSUN's {data.category} ({split})", source, data)
    _found(f"LSUN's {data.category}", root, data)


def check_ffhq(data: FFHQ, folder: Path) -> NoReturn:
    """Looks for the LMDB. Raises in every case."""
    root = root_of(data, folder, "ffhq")
    source = f"the {data.image_size}-pixel images of FFHQ (https://github.com/NVlabs/ffhq-dataset) as an LMDB"
    require(root / "data.mdb", f"FFHQ at {data.image_size} px", source, data)
    _found("FFHQ", root, data)


def _found(name: str, root: Path, data: DataOnDisk) -> NoReturn:
    raise NcsnxError(
        f"{name} is at {root}, but this version of ncsnx doesn't read {type(data).__name__} yet; "
        "it reads digits and CIFAR-10 (`ncsnx list`)"
    )
