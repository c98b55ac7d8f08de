"""Reading a packed file against decoding its JPEGs."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from ncsnx.config.data_sets import Images, Packed
from ncsnx.data import Dataset
from ncsnx.data.readers.own_images import open_images
from ncsnx.data.readers.packed import open_packed, pack, settings_of
from ncsnx.randomness import Purpose, Stream
from ncsnx.work import Work
from tests.benchmarks.pairs import alternate

IMAGES, SIZE, BATCH = 2_000, 128, 128


def reading() -> None:
    """2,000 JPEGs of 128 px in random order, in batches of 128, by one process, with all files in the page cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_crops(folder / "jpeg")
        config = Images(root=str(folder / "jpeg"), image_size=SIZE, held_out=0.0)
        decoded = open_images(config, folder, Work())
        pack(decoded, folder / "images.pack", settings=settings_of(config), work=Work())
        packed = open_packed(Packed(path=str(folder / "images.pack"), image_size=SIZE), folder)
        pair = alternate(lambda: _epoch(packed.train), lambda: _epoch(decoded.train), rounds=5)
        print(f"{'an epoch of 2,000 images of 128 px, packed / JPEG':<58} {pair}", flush=True)
        rates = f"{IMAGES / pair.first_s:9,.0f} /s {IMAGES / pair.second_s:9,.0f} /s"
        print(f"{'  images a second':<58} {rates}", flush=True)


def _write_crops(folder: Path) -> None:
    """Writes random crops of scikit-learn's two photographs as JPEGs."""
    folder.mkdir()
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    chance = np.random.default_rng(0)
    for number in range(IMAGES):
        photograph = photographs[number % len(photographs)]
        left, top = (int(chance.integers(0, side - SIZE)) for side in photograph.size)
        square = photograph.crop((left, top, left + SIZE, top + SIZE))
        square.save(folder / f"{number:04d}.jpg", quality=90)


def _epoch(dataset: Dataset) -> None:
    order = Stream(0, Purpose.DATA_ORDER).permutation(len(dataset), epoch=0)
    for indices in torch.split(order, BATCH):
        dataset.read(indices)
