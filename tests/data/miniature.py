"""Miniatures of the published data sets: their formats with a few images, written without ncsnx."""

import gzip
import io
import random
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

FOLDER = "cifar-10-batches-bin"
NAMES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
PER_FILE = 3
CELEBA_SIZES = ((178, 218), (178, 218), (181, 219), (140, 141), (178, 218), (163, 152), (178, 218), (178, 218))
"""Width and height; the real data set has only the first."""
CELEBA_PARTS = (0, 0, 1, 0, 2, 2, 1, 0)
LSUN_PICTURES = (
    ("RGB", (32, 24), "JPEG"),
    ("L", (25, 41), "JPEG"),
    ("RGB", (33, 33), "WEBP"),
    ("RGB", (17, 50), "JPEG"),
    ("CMYK", (40, 31), "JPEG"),
    ("RGB", (16, 16), "WEBP"),
)
"""Mode, width and height, format; the real data set has JPEGs or WebPs with a short side of 256."""


def write_cifar10(folder: Path, per_file: int = PER_FILE) -> list[tuple[int, bytes]]:
    """Writes the six files into `folder`; returns (label, 3,072 pixel bytes) of each image, in order."""
    generator = random.Random(7)
    folder.mkdir(parents=True)
    written = []
    for name in NAMES:
        images = [(generator.randrange(10), generator.randbytes(3072)) for _ in range(per_file)]
        (folder / f"{name}.bin").write_bytes(b"".join(bytes([label]) + pixels for label, pixels in images))
        written += images
    return written


def write_mnist(folder: Path, *, gzipped: bool = True, count: int = 5) -> list[tuple[int, bytes]]:
    """Writes the four files; returns (label, 784 pixel bytes) of each image, the two test images last."""
    generator = random.Random(9)
    folder.mkdir(parents=True)
    written = []
    for part, images in (("train", count), ("t10k", 2)):
        pairs = [(generator.randrange(10), generator.randbytes(28 * 28)) for _ in range(images)]
        labels, pixels = bytes(label for label, _ in pairs), b"".join(pixels for _, pixels in pairs)
        for name, content in (
            (f"{part}-images-idx3-ubyte", struct.pack(">4I", 0x803, images, 28, 28) + pixels),
            (f"{part}-labels-idx1-ubyte", struct.pack(">2I", 0x801, images) + labels),
        ):
            (folder / (f"{name}.gz" if gzipped else name)).write_bytes(gzip.compress(content) if gzipped else content)
        written += pairs
    return written


def encoded(mode: str, size: tuple[int, int], kind: str, seed: int) -> bytes:
    """The file content of a picture of coarse and fine noise."""
    generator = np.random.default_rng(seed)
    bands = len(Image.new(mode, (1, 1)).getbands())
    coarse = generator.integers(0, 256, (4, 4, bands), dtype=np.uint8)
    layers = [Image.fromarray(coarse[..., band]).resize(size, Image.Resampling.BICUBIC) for band in range(bands)]
    fine = generator.integers(-20, 21, (size[1], size[0], bands))
    pixels = np.stack([np.asarray(layer) for layer in layers], axis=-1).astype(int) + fine
    layers = [Image.fromarray(band) for band in np.moveaxis(pixels.clip(0, 255).astype(np.uint8), -1, 0)]
    content = io.BytesIO()
    Image.merge(mode, layers).save(content, kind)
    return content.getvalue()


def write_hub(
    root: Path,
    form: str,
    *,
    labels: Sequence[int | None] | None = None,
    columns: Mapping[str, str] | None = None,
    **splits: Sequence[bytes],
) -> None:
    """Writes splits of encoded pictures of cats and dogs in turn, by `save_to_disk` or as Parquet.

    labels: other ones. columns: types of further columns, with the same values, or of the pictures.
    """
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
    from datasets import Image as Picture

    kinds = {"image": "Image", "label": "ClassLabel", **(columns or {})}
    types = {"Image": Picture(), "ClassLabel": ClassLabel(names=["cat", "dog"]), "Value": Value("string")}
    made = {}
    for name, pictures in splits.items():
        values = {
            "Image": [{"bytes": content, "path": None} for content in pictures],
            "ClassLabel": labels or [n % 2 for n in range(len(pictures))],
            "Value": ["x"] * len(pictures),
        }
        features = Features({column: types[kind] for column, kind in kinds.items()})
        made[name] = Dataset.from_dict({column: values[kind] for column, kind in kinds.items()}, features=features)
    if form == "parquet":
        (root / "data").mkdir(parents=True)
        for name, split in made.items():
            split.to_parquet(root / "data" / f"{name}-00000-of-00001.parquet")
    else:
        (DatasetDict(made) if form == "saved" else made["train"]).save_to_disk(root)


def write_celeba(folder: Path, *, packed: bool) -> dict[str, bytes]:
    """Writes the list and the pictures, as a zip or a folder; returns the pictures' bytes in the list's order."""
    pictures = {f"{n:06d}.jpg": encoded("RGB", size, "JPEG", n) for n, size in enumerate(CELEBA_SIZES, start=1)}
    folder.mkdir(parents=True)
    lines = [f"{name} {part}\n" for name, part in zip(pictures, CELEBA_PARTS, strict=True)]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    if packed:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            archive.writestr("img_align_celeba/", b"")
            for name, content in pictures.items():
                archive.writestr(f"img_align_celeba/{name}", content)
    else:
        (folder / "img_align_celeba").mkdir()
        for name, content in pictures.items():
            (folder / "img_align_celeba" / name).write_bytes(content)
    return pictures


def write_lmdb(folder: Path, entries: Mapping[bytes, bytes]) -> Path:
    """Writes an LMDB with its lock file; returns its data file."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    return folder / "data.mdb"


def write_lsun(root: Path, category: str = "bedroom") -> tuple[list[bytes], list[bytes]]:
    """Writes both LMDBs of a category; returns the pictures of each in the order of their keys."""
    written = []
    for split, seed in (("train", 100), ("val", 200)):
        generator = random.Random(seed)
        count = len(LSUN_PICTURES) if split == "train" else 2
        pictures = {
            generator.randbytes(20).hex().encode(): encoded(*LSUN_PICTURES[n], seed=seed + n) for n in range(count)
        }
        write_lmdb(root / f"{category}_{split}_lmdb", pictures)
        written.append([pictures[key] for key in sorted(pictures)])
    return written[0], written[1]


def write_ffhq(root: Path, count: int, sizes: tuple[int, ...] = (16,)) -> list[bytes]:
    """Writes an LMDB with pictures of these sizes; returns those of the first size by index."""
    entries = {
        f"{size}-{index:05d}".encode(): encoded("RGB", (size, size), "PNG", 1000 * size + index)
        for size in sizes
        for index in range(count)
    }
    write_lmdb(root, entries | {b"length": str(count).encode()})
    return [entries[f"{sizes[0]}-{index:05d}".encode()] for index in range(count)]


def write_ffhq_folder(root: Path, name: str, size: int, count: int) -> list[bytes]:
    """Writes images as NVlabs does, a thousand per folder (here two); returns them by index."""
    pictures = [encoded("RGB", (size, size), "PNG", index) for index in range(count)]
    for index, content in enumerate(pictures):
        folder = root / name / f"{index - index % 2:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:05d}.png").write_bytes(content)
    return pictures
