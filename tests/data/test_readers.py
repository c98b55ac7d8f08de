from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from ncsnx.config.data_sets import CIFAR10, FFHQ, LSUN, CelebA, Data, Digits, Images
from ncsnx.data import DataMissingError, Splits, data_folder, data_set, open_data
from ncsnx.errors import NcsnxError
from ncsnx.features.real_images import DataSource
from ncsnx.work import Work
from tests.data.miniature import FOLDER, PER_FILE, write_celeba, write_cifar10, write_ffhq, write_lsun

EVERYTHING = torch.arange(PER_FILE * 5)


def test_every_digit_is_in_one_split_as_scikit_learn_has_it(tmp_path: Path) -> None:
    splits = open_data(Digits(), tmp_path)
    source = load_digits()
    assert (len(splits.train), len(splits.held_out)) == (1498, 299)
    seen = []
    for split in (splits.train, splits.held_out):
        assert (split.shape, split.value_range) == ((1, 8, 8), (0, 16))
        images = split.read(torch.arange(len(split)))
        assert (images.pixels.dtype, images.labels.dtype, images.ids.dtype) == (torch.uint8, torch.int64, torch.int64)
        for pixels, label, number in zip(images.pixels, images.labels, images.ids, strict=True):
            assert pixels[0].tolist() == source.images[number].astype(int).tolist()
            assert label == source.target[number]
            seen.append(int(number))
    assert sorted(seen) == list(range(1797))
    assert (splits.held_out.read(torch.arange(299)).ids % 6 == 5).all()


def test_images_come_in_the_order_they_are_asked_for(tmp_path: Path) -> None:
    split = open_data(Digits(), tmp_path).train
    together = split.read(torch.tensor([5, 0, 5]))
    apart = [split.read(torch.tensor([index])) for index in (5, 0, 5)]
    assert torch.equal(together.pixels, torch.cat([images.pixels for images in apart]))
    assert torch.equal(together.ids, torch.cat([images.ids for images in apart]))


def test_cifar10_is_read_pixel_by_pixel(tmp_path: Path) -> None:
    written = write_cifar10(tmp_path / FOLDER)
    splits = open_data(CIFAR10(), tmp_path)
    assert (len(splits.train), len(splits.held_out)) == (5 * PER_FILE, PER_FILE)
    numbers = []
    for split in (splits.train, splits.held_out):
        assert (split.shape, split.value_range) == ((3, 32, 32), (0, 255))
        images = split.read(torch.arange(len(split)))
        for pixels, label, number in zip(images.pixels, images.labels, images.ids, strict=True):
            expected_label, expected = written[int(number)]
            assert label == expected_label
            for channel in range(3):
                for row in range(32):
                    begin = channel * 1024 + row * 32
                    assert pixels[channel, row].tolist() == list(expected[begin : begin + 32])
            numbers.append(int(number))
    assert numbers == list(range(6 * PER_FILE))


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
    (CelebA(), "get img_align_celeba.zip (1.4 GB, unpacked or not) from https://", "celeba/img_align_celeba.zip"),
    (
        LSUN(category="bedroom", image_size=128),
        "wget -c -P",
        "lsun/bedroom_train_lmdb/data.mdb",
    ),
    (FFHQ(), "an LMDB of 256-px images", "ffhq/data.mdb"),
]


@pytest.mark.parametrize(("data", "way", "place"), MISSING)
def test_missing_data_says_how_to_get_it_and_where_it_is_expected(
    tmp_path: Path, data: Data, way: str, place: str
) -> None:
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


@pytest.mark.parametrize(
    "data",
    [CIFAR10(), CelebA(), LSUN(category="bedroom", image_size=16), FFHQ(image_size=16)],
    ids=lambda data: type(data).__name__,
)
def test_every_published_set_is_opened_by_its_configuration(tmp_path: Path, data: Data) -> None:
    write_cifar10(tmp_path / FOLDER)
    write_celeba(tmp_path / "celeba", packed=True)
    write_lsun(tmp_path / "lsun")
    write_ffhq(tmp_path / "ffhq", 10)
    splits = open_data(data, tmp_path)
    for split in (splits.train, splits.held_out):
        images = split.read(torch.arange(len(split)))
        assert images.pixels.shape == (len(split), *data.shape)
        assert split.shape == data.shape


def test_the_data_folder_is_the_option_then_the_variable_then_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCSNX_DATA", raising=False)
    assert data_folder() == Path("data")
    monkeypatch.setenv("NCSNX_DATA", "/somewhere")
    assert data_folder() == Path("/somewhere")
    assert data_folder(Path("mine")) == Path("mine")


def test_a_registered_reader_is_used_for_data_of_another_package(tmp_path: Path) -> None:
    class Mine(Data):
        pass

    with pytest.raises(NcsnxError, match=r"@ncsnx\.data\.data_set\(Mine\)"):
        open_data(Mine(), tmp_path)

    @data_set(Mine)
    def read_mine(data: Mine, folder: Path, work: Work) -> Splits:
        return open_data(Digits(), folder)

    assert len(open_data(Mine(), tmp_path).train) == 1498
