"""Every registered data set, built in or from a package, and the readers of digits and CIFAR-10."""

import gzip
import pickle
import re
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ncsnx.config.data_sets import (
    CIFAR10,
    FFHQ,
    LSUN,
    MNIST,
    Arrays,
    CelebA,
    Data,
    Digits,
    FashionMNIST,
    Hub,
    Images,
    Packed,
    Phantoms,
    Volumes,
)
from ncsnx.config.variants import variants
from ncsnx.data import DataMissingError, Splits, TrainingBatches, data_set, data_set_of, open_data
from ncsnx.data.dataset import held_out_by_hash
from ncsnx.data.readers.packed import pack
from ncsnx.errors import NcsnxError
from ncsnx.features.real_images import DataSource
from ncsnx.work import Work
from tests.data.miniature import (
    FOLDER,
    PER_FILE,
    encoded,
    write_celeba,
    write_cifar10,
    write_ffhq,
    write_hub,
    write_lsun,
    write_mnist,
)
from tests.data.pictures import mixed, save, zip_of

BUILT_IN: dict[type[Data], Data] = {
    CIFAR10: CIFAR10(),
    CelebA: CelebA(),
    LSUN: LSUN(category="bedroom", image_size=16),
    FFHQ: FFHQ(image_size=16),
    Hub: Hub(root="hub", image_size=4),
    Images: Images(root="pictures", image_size=4, held_out=0.4),
    Arrays: Arrays(path="images.npy", image_size=4, channels=3, held_out=0.4),
    Packed: Packed(path="digits.pack", image_size=8, channels=1),
    Volumes: Volumes(path="volumes", image_size=4, held_out=0.4),
    Phantoms: Phantoms(image_size=8, count=16),  # drawing the default takes seconds
}


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the files of all built-in data sets."""
    folder = tmp_path_factory.mktemp("data")
    write_cifar10(folder / FOLDER)
    write_mnist(folder / "mnist")
    write_mnist(folder / "fashion_mnist" / "FashionMNIST" / "raw", gzipped=False)
    write_celeba(folder / "celeba", packed=True)
    write_lsun(folder / "lsun")
    write_ffhq(folder / "ffhq", 10)
    write_hub(folder / "hub", "saved", train=[encoded("RGB", (6, 5), "PNG", seed) for seed in range(12)])
    mixed(folder / "pictures", 12)
    values = np.random.default_rng(0).integers(0, 256, (12, 3, 4, 4), dtype=np.uint8)
    np.save(folder / "images.npy", values)
    (folder / "volumes").mkdir()
    for number in range(3):
        np.save(folder / "volumes" / f"{number}.npy", values[:, number].astype(np.float32))
    for place in ("pets/ape/1", "pets/ape/2", "pets/cat\x1b/3", "pets/cat\x1b/4"):
        save(folder / f"{place}.png")
    zip_of(folder / "pets.zip", folder / "pets")
    for labels in ("0122", "0133"):
        np.savez(folder / f"{labels}.npz", images=values[:4], labels=list(map(int, labels)))
    pets = open_data(Images(root=str(folder / "pets"), image_size=4), folder)
    pack(pets, folder / "pets.pack", settings={}, work=Work())
    pack(open_data(Digits(), folder), folder / "digits.pack", settings={}, work=Work())
    return folder


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("kind", variants(Data).values(), ids=lambda kind: kind.__name__)
def test_every_reader_gives_the_declared_images_in_any_order_and_process(kind: type[Data], miniatures: Path) -> None:
    data = cast(Data, BUILT_IN.get(kind) or kind())
    opened, again = (data_set_of(data).read(data, miniatures, Work()) for _ in range(2))
    assert opened.fingerprint == again.fingerprint
    assert re.fullmatch("[0-9a-f]{64}", opened.fingerprint)
    whole = [split.read(torch.arange(len(split))) for split in (opened.train, opened.held_out)]
    for split, images in zip((opened.train, opened.held_out), whole, strict=True):
        black, white = split.value_range
        assert tuple(images.pixels.shape) == (len(split), *data.shape)
        assert split.shape == data.shape
        if data.is_bounded:
            assert black <= float(images.pixels.min()) <= float(images.pixels.max()) <= white
        assert images.labels.dtype == images.ids.dtype == torch.int64
        assert len(images.labels) == len(images.ids) == len(split)
        some = torch.tensor([len(split) - 1, 0, len(split) - 1])
        for reader in (split, pickle.loads(pickle.dumps(split))):
            found = reader.read(some)
            assert torch.equal(found.pixels, images.pixels[some])
            assert torch.equal(found.ids, images.ids[some])
        assert split.read(torch.arange(0)).pixels.shape == (0, *data.shape)
    ids = torch.cat([images.ids for images in whole])
    assert len(ids.unique()) == len(ids), "no image is in both splits, or twice in one"
    batches = TrainingBatches(opened.train, batch_size=5, seed=0)
    for step, batch in enumerate(batches.between(0, 4, workers=2)):  # forked after files have been opened
        assert torch.equal(batch.images.pixels, batches.at(step).images.pixels)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (Digits(), "0123456789"),
        (Packed(path="digits.pack", image_size=8, channels=1), "0123456789"),
        (CIFAR10(), ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]),
        (MNIST(), "0123456789"),
        (
            FashionMNIST(),
            ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
        ),
        (Images(root="pets", image_size=4), ("ape", "cat\x1b")),
        (Images(root="pets.zip", image_size=4), ("ape", "cat\x1b")),
        (Images(root="pets", image_size=4, patches=True), ("ape", "cat\x1b")),
        (Packed(path="pets.pack", image_size=4), ("ape", "cat\x1b")),
        (Images(root="pictures/a", image_size=4), ("0", "1", "2")),
        (Arrays(path="0122.npz", image_size=4, channels=3), ("0", "1", "2")),
        (Arrays(path="0133.npz", image_size=4, channels=3), ()),
        (Arrays(path="images.npy", image_size=4, channels=3), ()),
        (Phantoms(image_size=8, count=16), ()),
    ],
    ids=lambda given: "" if isinstance(given, Data) else f"{len(given)} classes",
)
def test_classes_have_names_where_every_image_has_a_label(data: Data, names: Sequence[str], miniatures: Path) -> None:
    opened = open_data(data, miniatures)
    assert opened.class_names == tuple(names)
    labels = torch.cat([split.read(torch.arange(len(split))).labels for split in (opened.train, opened.held_out)])
    assert set(labels.tolist()) <= set(range(len(names))) or not names


def test_data_without_a_reader_says_how_to_register_one_and_is_read_by_it_then(tmp_path: Path) -> None:
    class Mine(Data):
        pass

    with pytest.raises(NcsnxError, match=r"@ncsnx\.data\.data_set\(Mine\)"):
        open_data(Mine(), tmp_path)

    @data_set(Mine)
    def read_mine(data: Mine, folder: Path, work: Work) -> Splits:
        return open_data(Digits(), folder)

    assert len(open_data(Mine(), tmp_path).train) == 1498
    with pytest.raises(ValueError, match="Mine already has a reader"):
        data_set(Mine)(lambda data, folder, work: None)  # type: ignore[arg-type, return-value]


def test_every_digit_is_in_one_split_as_scikit_learn_has_it(tmp_path: Path) -> None:
    splits = open_data(Digits(), tmp_path)
    source = load_digits()
    train, held_out = (split.read(torch.arange(len(split))) for split in (splits.train, splits.held_out))
    assert (len(train.ids), len(held_out.ids)) == (1498, 299)
    assert (held_out.ids % 6 == 5).all()
    for images in (train, held_out):
        assert np.array_equal(images.pixels[:, 0].numpy(), source.images[images.ids])
        assert np.array_equal(images.labels.numpy(), source.target[images.ids])


def test_cifar10_is_read_pixel_by_pixel(tmp_path: Path) -> None:
    written = write_cifar10(tmp_path / FOLDER)
    splits = open_data(CIFAR10(), tmp_path)
    assert (len(splits.train), len(splits.held_out)) == (5 * PER_FILE, PER_FILE)
    numbers = []
    for split in (splits.train, splits.held_out):
        images = split.read(torch.arange(len(split)))
        for pixels, label, number in zip(images.pixels, images.labels, images.ids.tolist(), strict=True):
            assert (int(label), pixels.numpy().tobytes()) == written[number]  # red, green, blue, each row by row
            numbers.append(number)
    assert numbers == list(range(6 * PER_FILE))


@pytest.mark.parametrize(
    ("place", "data"),
    [
        ("mnist", MNIST()),
        ("x", MNIST(root="x")),
        ("x/MNIST/raw", MNIST(root="x")),
        ("x/FashionMNIST/raw", FashionMNIST(root="x")),
    ],
    ids=str,
)
def test_mnist_is_read_pixel_by_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, data: Data) -> None:
    monkeypatch.chdir(tmp_path)
    fingerprints = []
    for gzipped in (True, False):
        written = write_mnist(tmp_path / place, gzipped=gzipped)
        splits = open_data(data, tmp_path)
        assert (len(splits.train), len(splits.held_out)) == (5, 2)
        for split in (splits.train, splits.held_out):
            images = split.read(torch.arange(len(split)))
            for pixels, label, number in zip(images.pixels, images.labels, images.ids.tolist(), strict=True):
                assert (int(label), pixels.numpy().tobytes()) == written[number]
        fingerprints.append(splits.fingerprint)
        shutil.rmtree(tmp_path / place)
    assert fingerprints[0] == fingerprints[1]


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("train-images-idx3", lambda content: content[:-1], "found 5×28×28 of them in 3,935 bytes; get it again"),
        ("train-images-idx3", lambda content: content + b"x", "found 5×28×28 of them in 3,937 bytes"),
        ("train-images-idx3", lambda content: b"", "found another file"),
        ("train-images-idx3", lambda content: content[:9], r"found 5×0×0 of them in 9 bytes"),
        ("train-images-idx3", lambda content: b"\x89PNG" + content[4:], "found another file"),
        ("t10k-labels-idx1", lambda content: content[:4] + b"\xff" * 4, "up to 60,000 unsigned .* 4294967295 of them"),
        ("t10k-labels-idx1", lambda content: content[:8] + b"\n\n", "found 2 labels of up to 10 for 2 images"),
        ("t10k-labels-idx1", lambda content: struct.pack(">2I", 0x801, 1) + b"\0", "found 1 label of up to 0 for 2"),
        ("t10k-labels-idx1", lambda content: struct.pack(">2I", 0x801, 0), "found 0 of them in 8 bytes"),
    ],
)
@pytest.mark.parametrize("gzipped", [True, False])
def test_a_damaged_file_of_mnist_is_named(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes], found: str, gzipped: bool
) -> None:
    write_mnist(tmp_path / "mnist", gzipped=False)
    path = tmp_path / "mnist" / f"{name}-ubyte"
    content = change(path.read_bytes())
    path.unlink()
    path = path.with_suffix(".gz") if gzipped else path
    path.write_bytes(gzip.compress(content) if gzipped else content)
    with pytest.raises(NcsnxError, match=rf"{path}: expected .*{found}"):
        open_data(MNIST(), tmp_path)
    if gzipped:
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(NcsnxError, match=rf"{path}: cannot be read: Compressed file ended .*; get it again"):
            open_data(MNIST(), tmp_path)


@pytest.mark.parametrize("root", ["", FOLDER])
def test_a_declared_root_may_be_the_folder_or_the_one_that_holds_it(tmp_path: Path, root: str) -> None:
    write_cifar10(tmp_path / "elsewhere" / FOLDER)
    data = CIFAR10(root=str(tmp_path / "elsewhere" / root))
    assert len(open_data(data, tmp_path / "nowhere").train) == 5 * PER_FILE


def test_the_fingerprint_covers_bytes_but_no_path(tmp_path: Path) -> None:
    def fingerprint(place: Path) -> str:
        return open_data(CIFAR10(root=str(place)), tmp_path).fingerprint

    write_cifar10(tmp_path / "here")
    write_cifar10(tmp_path / "there")
    before = fingerprint(tmp_path / "here")
    assert fingerprint(tmp_path / "there") == before
    path = tmp_path / "there" / "data_batch_3.bin"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert fingerprint(tmp_path / "there") != before


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: content[:-1], "9,218 bytes"),
        (lambda content: b"", "0 bytes"),
        (lambda content: b"\x0a" + content[1:], "found 10"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: "type[bytes]", found: str) -> None:
    write_cifar10(tmp_path / FOLDER)
    path = tmp_path / FOLDER / "data_batch_2.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(NcsnxError, match=rf"data_batch_2\.bin: .*{found}"):
        open_data(CIFAR10(), tmp_path)


MISSING = [
    (CIFAR10(), "ncsnx data download cifar10 data.root=", "cifar-10-batches-bin/data_batch_1.bin"),
    (MNIST(), "ncsnx data download mnist data.root=", "mnist/train-images-idx3-ubyte.gz"),
    (CelebA(), "get img_align_celeba.zip (1.4 GB, unpacked or not) from https://", "celeba/img_align_celeba.zip"),
    (LSUN(category="bedroom", image_size=128), "wget -c -P", "lsun/bedroom_train_lmdb/data.mdb"),
    (FFHQ(), "an LMDB of 256-px images", "ffhq/data.mdb"),
]


@pytest.mark.parametrize(("data", "way", "place"), MISSING)
def test_missing_data_says_how_to_get_it_and_where_to(tmp_path: Path, data: Data, way: str, place: str) -> None:
    with pytest.raises(DataMissingError) as caught:
        open_data(data, tmp_path)
    message = str(caught.value)
    assert way in message
    assert f"{tmp_path / place} is missing" in message
    assert "data.root=DIR" in message
    assert "\n" not in message


def test_a_run_whose_data_is_missing_names_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match=r"download it .*; or name the data folder: data=DIR$"):
        DataSource(data=CIFAR10(), folder=tmp_path).splits()
    with pytest.raises(DataMissingError, match=r"your data is not at /nowhere; name the data folder: data=DIR$"):
        DataSource(data=Images(root="/nowhere", image_size=8), folder=tmp_path).splits()


def test_the_declared_share_is_held_out_by_the_hash_of_the_name() -> None:
    names = [f"{number}.png" for number in range(10_000)]
    held_out = held_out_by_hash(names, 0.1)
    # five standard errors of a share of 10,000 independent draws
    assert float(held_out.double().mean()) == pytest.approx(0.1, abs=5 * (0.09 / 10_000) ** 0.5)
    assert bool((held_out <= held_out_by_hash(names, 0.2)).all()), "a larger share holds out those too"
    assert int(held_out_by_hash(names[:2], 1e-9).sum()) == 1


def test_a_share_below_one_leaves_an_image_to_train_on_whatever_its_name() -> None:
    assert not any(bool(held_out_by_hash([f"{number}.png"], 0.1)) for number in range(100))
    assert held_out_by_hash(["a", "b"], 0.999999999).sum() == 1
    assert held_out_by_hash(["a", "b"], 1.0).all()
