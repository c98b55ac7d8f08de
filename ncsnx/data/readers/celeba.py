"""CelebA (Liu et al. 2015), aligned and cropped: 202,599 pictures of 178×218 pixels, in a zip or a folder.

`list_eval_partition.txt` assigns each picture to training (0), validation (1) or test (2). As published, the held-out
split is the test set, and pictures are transformed by a center crop, then resizing.
"""

import hashlib
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from ncsnx import bounded_reads
from ncsnx.config.codec import digest
from ncsnx.config.data_sets import CelebA
from ncsnx.config.image_sizes import height_and_width
from ncsnx.data.dataset import Splits
from ncsnx.data.decoding import fitted
from ncsnx.data.image_files import ImageFiles
from ncsnx.data.places import DataMissingError, missing_data, root_of
from ncsnx.data.readers.encoded_pictures import EncodedPictures, FilePictures, published_split
from ncsnx.data.registry import data_set
from ncsnx.errors import Hint, NcsnxError
from ncsnx.quantities import counted
from ncsnx.work import SILENT, Work

_FOLDER = "celeba"
_PICTURES = "img_align_celeba"
_ARCHIVE = f"{_PICTURES}.zip"
PARTITION = "list_eval_partition.txt"
_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_TRAINING, _VALIDATION, _TEST = 0, 1, 2
_PARTS = tuple(str(part) for part in (_TRAINING, _VALIDATION, _TEST))
_SAMPLED_PICTURES = 64
_MOST_LETTERS = 60


def download_celeba(data: CelebA, folder: Path, work: Work) -> Path:
    """The folder of CelebA, from Google Drive by torchvision and gdown if they can. Raises DataMissingError."""
    root = root_of(data, folder, _FOLDER)
    if ((root / _PICTURES).is_dir() or (root / _ARCHIVE).exists()) and (root / PARTITION).exists():
        return root
    from torchvision.datasets import CelebA as PublishedCelebA  # type: ignore[import-untyped]
    from torchvision.datasets.utils import download_file_from_google_drive  # type: ignore[import-untyped]

    try:
        for drive_id, md5, name in PublishedCelebA.file_list:
            if name in (_ARCHIVE, PARTITION):
                work.info(f"downloading {name}")
                download_file_from_google_drive(drive_id, root, name, md5)
    except Exception as error:  # without gdown, offline, or where Google limits downloads: each raises its own
        files = f"{_ARCHIVE} (1.4 GB, need not be unpacked) and {PARTITION} (3 MB)"
        raise DataMissingError(
            f"CelebA cannot be downloaded automatically: {' '.join(str(error).split())}",
            Hint(f"get {files} from {_PAGE} and put both into {root}"),
        ) from error
    return root


@data_set(
    CelebA,
    download=download_celeba,
    reference="held-out",  # its test set, as published
)
def read_celeba(data: CelebA, folder: Path, work: Work = SILENT) -> Splits:
    """CelebA from `data.root` or the data folder. Raises DataMissingError; NcsnxError for invalid files."""
    root = root_of(data, folder, _FOLDER)
    pictures = root / _PICTURES if (root / _PICTURES).is_dir() else root / _ARCHIVE
    for path, what in ((pictures, f"{_ARCHIVE} (1.4 GB, unpacked or not)"), (root / PARTITION, PARTITION)):
        if not path.exists():
            raise missing_data("CelebA", path, Hint(f"get {what} from {_PAGE} and put it into {root}"))
    names, parts = _partition(root / PARTITION)
    prefix = "" if pictures.is_dir() else f"{_PICTURES}/"
    files = FilePictures(ImageFiles.open(pictures), [prefix + name for name in names])
    if absent := sorted({*files.names} - {*files.files.names}):
        what = f"{len(absent):,} of the {counted(len(names), 'picture')} in {PARTITION}, such as {absent[0]}"
        raise NcsnxError(f"{pictures}: lacks {what}; get it again")
    transform = partial(crop_and_resize, crop=height_and_width(data.crop), size=data.stored_size)
    part = torch.tensor(parts)

    def split(number: int) -> EncodedPictures:
        return published_split(files, torch.nonzero(part == number).flatten(), transform, data.stored_size)

    # the same for the zip and the folder: a digest of the list and of some pictures' bytes
    every = -(-len(parts) // _SAMPLED_PICTURES)
    sampled = [hashlib.sha256(files.read(place)).hexdigest() for place in range(0, len(parts), every)]
    return Splits(split(_TRAINING), split(_TEST), digest(["celeba", names, parts, sampled]))


def crop_and_resize(image: Image.Image, crop: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """Crops the center, then resizes it (bilinear, antialiased): torchvision's CenterCrop and Resize.

    crop, size: (height, width). A crop of other proportions than the size is resized until it covers the size, and
    cropped again. Raises ValueError for a picture smaller than the crop.
    """
    height, width = crop
    if image.height < height or image.width < width:
        raise ValueError(
            f"has {image.width}×{image.height} pixels, fewer than the crop of {width}×{height} (data.crop)"
        )
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return fitted(image.crop((left, top, left + width, top + height)), size)


def _partition(path: Path) -> tuple[list[str], list[int]]:
    """(names, partition of each) in the list."""
    try:
        rows = [line.split() for line in bounded_reads.read_bytes(path).decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise NcsnxError(f"{path}: cannot be read as a list of pictures: {error}; get it again") from error
    wrong = [row for row in rows if len(row) != 2 or row[1] not in _PARTS or "/" in row[0]]
    names, parts = [row[0] for row in rows if row], [int(row[1]) for row in rows if row not in wrong]
    if wrong or len(set(names)) < len(names) or not {_TRAINING, _TEST} <= set(parts):
        found = f"the line {' '.join(wrong[0])[:_MOST_LETTERS]!r}" if wrong else "names twice, or none for 0 or 2"
        raise NcsnxError(
            f"{path}: expected a line such as '000001.jpg 0' for each picture, with 0, 1 or 2 for training, validation "
            f"or test, found {found}; get it again"
        )
    return names, parts
