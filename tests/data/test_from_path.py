"""The data set at a path: its kind, size, channels and value range."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ncsnx.config.checks import FieldError
from ncsnx.config.data_sets import Arrays, Images, OwnData, Packed
from ncsnx.data import open_data
from ncsnx.data.readers.from_path import Reading, data_in, holds_pictures
from ncsnx.data.readers.packed import pack, settings_of
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.data.pictures import mixed, save, zip_of


def described(path: Path, **said: Any) -> OwnData:
    return data_in(path, Reading(**said), Work())


def save_array(path: Path, values: Any) -> Path:
    np.save(path, values)
    return path


def noise(*shape: int, dtype: Any = np.uint8, most: int = 255) -> Any:
    values = np.random.default_rng(0).integers(0, most + 1, shape).astype(dtype)
    values.flat[:2] = 0, most
    return values


def test_pictures_keep_their_size_and_are_in_color_if_one_is(here: Path) -> None:
    mixed(here / "x", 8, size=(22, 20))
    assert described(Path("x")) == Images(root="x", image_size=(20, 22), channels=3)
    zip_of(here / "x.zip", here / "x")
    assert described(here / "x.zip") == Images(root="x.zip", image_size=(20, 22), channels=3)
    said = {"image_size": 8, "channels": 1, "held_out": 0.5, "background": "black"}
    assert described(Path("x"), **said) == Images(root="x", **said)


def test_the_default_size_is_at_most_64(here: Path) -> None:
    save(here / "x" / "a.png", size=(200, 100))
    assert described(Path("x")).image_size == (32, 64)
    assert described(Path("x"), image_size=100).image_size == 100
    save(here / "x" / "b.png", size=(100, 200))
    assert described(Path("x")).image_size == 64


@pytest.mark.parametrize(("size", "side"), [((200, 100), 64), ((60, 40), 40), ((32, 32), 32)])
def test_patches_are_squares_for_which_the_pictures_have_room(here: Path, size: tuple[int, int], side: int) -> None:
    for number in range(3):
        save(here / "x" / f"{number}.png", number, size)
    data = described(Path("x"), patches=True, held_out=0.0)
    assert data.image_size == side
    assert len(open_data(data, here, Work()).train) == 3 * (size[0] // side) * (size[1] // side)


@pytest.mark.parametrize(("kind", "mode"), [("png", "RGB"), ("png", "LA")])
def test_gray_pictures_are_gray_in_any_mode(here: Path, kind: str, mode: str) -> None:
    for number in range(3):
        save(here / "x" / f"{number}.png", number, (20, 20), "L")
        with Image.open(here / "x" / f"{number}.png") as picture:
            picture.convert(mode).save(here / "x" / f"{number}-again.{kind}")
    assert described(Path("x")).channels == 1
    save(here / "x" / "color.png", 5, (20, 20), "RGB")
    assert described(Path("x")).channels == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (noise(9, 4, 4), (0, 255)),
        (noise(9, 4, 4, most=1), (0, 1)),
        (noise(9, 4, 4, dtype=np.int64, most=1000), (0, 1023)),
        (noise(9, 4, 4, dtype=np.uint16, most=4000), (0, 4095)),
        (noise(9, 4, 4, dtype=np.int32, most=70_000), (0, 70_000)),
        (noise(9, 4, 4, dtype=np.int16, most=3000) - 1000, (-1000, 2000)),
        (noise(9, 4, 4, dtype=np.float32, most=1), (0, 1)),
        (noise(9, 4, 4, dtype=np.float32, most=2) - 1, (-1, 1)),
        (noise(9, 4, 4, dtype=np.float64, most=4000), None),
        (noise(9, 4, 4) > 127, (0, 1)),
    ],
)
def test_values_lie_in_a_usual_or_their_range(here: Path, values: Any, expected: tuple[float, float] | None) -> None:
    data = described(save_array(here / "x.npy", values))
    assert isinstance(data, Arrays)
    assert data.is_bounded == (expected is not None)  # floats outside the usual ranges are unbounded
    assert (data.low, data.high) == (expected or (0, 255))
    open_data(data, here, Work())  # refuses values outside the range


def test_stored_images_are_cropped_to_a_smaller_size(here: Path) -> None:
    path = save_array(here / "x.npy", noise(9, 1, 10, 10))
    assert described(path, image_size=8) == Arrays(path="x.npy", image_size=8, random_crop=10)
    assert described(path, image_size=8, random_crop=10, held_out=0.0).stored_size == (10, 10)
    data = described(path)
    packed = pack(open_data(data, here, Work()), here / "x.pack", settings=settings_of(data), work=Work())
    assert described(packed.path) == Packed(path="x.pack", image_size=10, channels=1)
    assert described(packed.path, image_size=8) == Packed(path="x.pack", image_size=8, random_crop=10, channels=1)


def test_one_of_several_arrays_is_chosen_by_its_name(here: Path) -> None:
    save_file({"a": torch.zeros(4, 8, 8), "b": torch.ones(4, 6, 6, dtype=torch.uint8)}, here / "x.safetensors")
    with pytest.raises(NcsnxError, match="expected one array, found 2 arrays: a, b"):
        described(here / "x.safetensors")
    data = described(here / "x.safetensors", array="b")
    assert data == Arrays(path="x.safetensors", image_size=6, high=1.0, array="b")


@pytest.mark.parametrize(
    ("said", "field", "complaint"),
    [
        ({"image_size": 11}, "image_size", r"must be at most 10 \(stored images are not enlarged\), not 11"),
        ({"image_size": 0}, "image_size", "must be between 1 and"),
        ({"channels": 3}, "channels", r"must be 1 for .*x\.npy with shape 9×1×10×10, not 3"),
        ({"random_crop": 9}, "random_crop", "must be 10, the size of the stored images, not 9"),
        ({"background": "black"}, "background", "does not apply to arrays"),
        ({"held_out": 2.0}, "held_out", "must be at least 0"),
    ],
)
def test_options_that_do_not_suit_the_data_are_refused(here: Path, said: Any, field: str, complaint: str) -> None:
    path = save_array(here / "x.npy", noise(9, 1, 10, 10))
    with pytest.raises(FieldError, match=complaint) as caught:
        described(path, **said)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.full((4, 8, 8), np.nan), "found NaN or infinite values"),
        (np.full((4, 8, 8), 3000.0), "expected different values, found only 3000"),
        (noise(4, 8, 1, 1, 1), "expected images, N×C×H×W"),
        (np.zeros((0, 8, 8)), "expected images, found 0×8×8"),
        (np.float32(3), "expected images, found a single number"),
    ],
)
def test_other_arrays_are_refused(here: Path, values: Any, complaint: str) -> None:
    with pytest.raises(NcsnxError, match=complaint):
        described(save_array(here / "x.npy", values))


def test_any_other_path_is_searched_for_pictures(here: Path) -> None:
    (here / "x.txt").write_text("no picture")
    assert holds_pictures(here)
    assert holds_pictures(here / "x.txt")
    assert not holds_pictures(here / "X.NPY")
    with pytest.raises(NcsnxError, match=r"x\.txt"):
        described(here / "x.txt")


@pytest.mark.parametrize(
    ("shape", "channels"), [((12, 2, 8, 12), 2), ((12, 8, 12, 2), 2), ((12, 8, 12), 1), ((9, 3, 3, 3), 3)]
)
def test_arrays_keep_their_size_and_channels_in_every_layout(here: Path, shape: tuple[int, ...], channels: int) -> None:
    data = described(save_array(here / "x.npy", noise(*shape)))
    assert (data.channels, data.image_size) == (channels, (8, 12) if 8 in shape else 3)
    read = open_data(data, here, Work()).train.read(torch.tensor([0]))
    stored = np.load("x.npy")[read.ids[0]]
    expected = stored.transpose(2, 0, 1) if shape[-1] == 2 else stored.reshape(data.shape)
    assert np.array_equal(read.pixels[0].numpy(), expected)
