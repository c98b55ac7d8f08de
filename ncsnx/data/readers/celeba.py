"""CelebA (Liu et al. 2015), aligned and cropped: 202,599 pictures of 178×218 pixels, in a zip or a folder.

`list_eval_partition.txt` says of each whether it is for training (0), validation (1) or testing (2): trained on is the
first part, held out is the last, as published. Transformed as published: a centre crop, then resized.
"""

import hashlib
from pathlib import Path

import attrs
import torch
from PIL import Image

from ncsnx.config.canonical import digest
from ncsnx.config.data_sets import CelebA
from ncsnx.data.data_set import data_set
from ncsnx.data.missing import by_hand, require, root_of
from ncsnx.data.pictures.image_files import ImageFiles
from ncsnx.data.readers.encoded_pictures import EncodedPictures
from ncsnx.data.splits import Splits
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.storage import reading
from ncsnx.work import SILENT, Work

_FOLDER = "celeba"
_PICTURES = "img_align_celeba"
_ARCHIVE = f"{_PICTURES}.zip"
PARTITION = "list_eval_partition.txt"
_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_TRAINING, _VALIDATION, _TEST = 0, 1, 2
_PARTS = tuple(str(part) for part in (_TRAINING, _VALIDATION, _TEST))
_SAMPLED_PICTURES = 64
_MOST_NAMED, _MOST_LETTERS = 5, 60


def download_celeba(data: CelebA, folder: Path, work: Work) -> Path:
    """The folder that holds it; a person has to put it there. Raises DataMissingError."""
    root = root_of(data, folder, _FOLDER)
    if ((root / _PICTURES).is_dir() or (root / _ARCHIVE).exists()) and (root / PARTITION).exists():
        return root
    files = f"{_ARCHIVE} (1.4 GB, need not be unpacked) and {PARTITION} (3 MB)"
    raise by_hand("CelebA", files, _PAGE, f"put both into {root}")


@data_set(
    CelebA,
    download=download_celeba,
    reference="held-out",  # its test set, as published
    files=f"`{_ARCHIVE}` (it need not be unpacked) and `{PARTITION}` from [CelebA's page]({_PAGE})",
    place=f"data/{_FOLDER}",
)
def read_celeba(data: CelebA, folder: Path, work: Work = SILENT) -> Splits:
    """CelebA from `data.root` or the data folder. Raises DataMissingError, and NcsnxError for what doesn't fit."""
    root = root_of(data, folder, _FOLDER)
    pictures = root / _PICTURES
    if not pictures.is_dir():
        require(root, _ARCHIVE, "CelebA", f"{_ARCHIVE} (1.4 GB, unpacked or not) from {_PAGE}")
        pictures = root / _ARCHIVE
    require(root, PARTITION, "CelebA's split", f"{PARTITION} from {_PAGE}")
    names, parts = _partition(root / PARTITION)
    files = _NamedFiles(ImageFiles.open(pictures), "" if pictures.is_dir() else f"{_PICTURES}/", names)
    _require_all(files, root / PARTITION, pictures)
    transform, part = CropAndResize(data.crop, data.image_size), torch.tensor(parts)

    def split(number: int) -> EncodedPictures:
        return EncodedPictures(files, torch.nonzero(part == number).flatten(), transform, data.image_size)

    return Splits(split(_TRAINING), split(_TEST), _fingerprint(files, parts))


@attrs.frozen
class CropAndResize:
    """A square from the centre, resized (bilinear, antialiased): torchvision's CenterCrop, then its Resize."""

    crop: int
    size: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """Raises ValueError for a picture that is smaller than the crop."""
        if min(image.size) < self.crop:
            raise ValueError(
                f"has {image.width}×{image.height} pixels, fewer than the crop of {self.crop}×{self.crop} (data.crop)"
            )
        left, top = round((image.width - self.crop) / 2), round((image.height - self.crop) / 2)
        image = image.crop((left, top, left + self.crop, top + self.crop))
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


@attrs.frozen(eq=False)
class _NamedFiles:
    """The pictures of the list, in its order, wherever they are."""

    files: ImageFiles
    prefix: str
    names: tuple[str, ...]

    def read(self, place: int) -> bytes:
        return self.files.read(self.prefix + self.names[place])

    def name(self, place: int) -> str:
        return f"{self.files.root}: {self.names[place]}"


def _partition(path: Path) -> tuple[tuple[str, ...], list[int]]:
    """The names in the list, and the part that each is in."""
    try:
        lines = reading.read_bytes(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NcsnxError(f"{path}: expected a list of pictures, which cannot be read: {error}") from error
    rows = [line.split() for line in lines]
    wrong = [
        f"line {number}, {lines[number - 1][:_MOST_LETTERS]!r}"
        for number, row in enumerate(rows, start=1)
        if len(row) != 2 or row[1] not in _PARTS or "/" in row[0]
    ]
    if wrong:
        raise NcsnxError(
            f"{path}: expected lines such as '000001.jpg 0', with 0, 1 or 2 for training, validation and test; "
            f"{len(wrong):,} of {counted(len(lines), 'line')} are not: {_first(wrong)}; get it again"
        )
    names, parts = tuple(name for name, _ in rows), [int(part) for _, part in rows]
    if len(set(names)) < len(names) or not {_TRAINING, _TEST} <= set(parts):
        raise NcsnxError(
            f"{path}: expected a line a picture, some for training (0) and some for testing (2); found "
            f"{counted(len(names), 'line')}, {counted(len(set(names)), 'name')}, {parts.count(_TRAINING):,} and "
            f"{parts.count(_TEST):,}; get it again"
        )
    return names, parts


def _require_all(files: _NamedFiles, partition: Path, pictures: Path) -> None:
    there = set(files.files.names)
    missing = [name for name in files.names if files.prefix + name not in there]
    if missing:
        raise NcsnxError(
            f"{pictures}: {len(missing):,} of the {counted(len(files.names), 'picture')} that {partition.name} lists "
            f"are not in it: {_first(missing)}; get it again"
        )


def _first(found: list[str]) -> str:
    return ", ".join(found[:_MOST_NAMED]) + (", …" if len(found) > _MOST_NAMED else "")


def _fingerprint(files: _NamedFiles, parts: list[int]) -> str:
    """The list, and the bytes of some pictures: the same for the zip and the folder."""
    every = -(-len(parts) // _SAMPLED_PICTURES)
    sampled = [hashlib.sha256(files.read(place)).hexdigest() for place in range(0, len(parts), every)]
    return digest(["celeba", list(files.names), parts, sampled])
