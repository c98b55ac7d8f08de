"""Every reader gives rectangles as declared, and their crops stay within the stored images."""

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ncsnx.config import Arrays, Data, Images
from ncsnx.data import Preprocessing, open_data
from ncsnx.data.decoding import fitted
from ncsnx.data.readers.celeba import crop_and_resize
from ncsnx.data.readers.ffhq import shrunk, square_centre
from ncsnx.data.readers.from_path import Reading, own_data
from ncsnx.work import Work

VALUES = np.random.default_rng(5).integers(0, 256, (12, 2, 8, 12), dtype=np.uint8)


def all_pixels(data: Data, folder: Path) -> Tensor:
    """Pixels of both splits, in the order of the ids."""
    splits = open_data(data, folder, Work())
    read = [split.read(torch.arange(len(split))) for split in (splits.train, splits.held_out)]
    order = torch.cat([images.ids for images in read]).argsort()
    return torch.cat([images.pixels for images in read])[order]


@pytest.mark.parametrize(
    ("values", "channels"),
    [(VALUES, 2), (VALUES.transpose(0, 2, 3, 1), 2), (VALUES[:, 0], 1), (VALUES[:, :1], 1)],
    ids=["N×C×H×W", "N×H×W×C", "N×H×W", "one channel"],
)
def test_arrays_are_found_and_read(values: Any, channels: int, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values)
    found = own_data(tmp_path / "x.npy", Reading(), Work())
    assert found == Arrays(path=found.path, image_size=(8, 12), channels=channels)  # type: ignore[attr-defined]
    assert torch.equal(all_pixels(found, tmp_path), torch.from_numpy(VALUES[:, :channels].copy()))


def test_own_pictures_cover_the_size_and_are_cropped(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    ramp = np.linspace(0, 255, 40).astype(np.uint8)
    Image.fromarray(np.tile(ramp, (30, 1))).save(tmp_path / "x" / "a.png")  # 30 high, 40 wide
    data = Images(root="x", image_size=(12, 8), channels=1, held_out=0.0)
    pixels = all_pixels(data, tmp_path)
    assert pixels.shape == (1, 1, 12, 8)
    assert abs(float(pixels.float().mean()) - 127.5) < 2  # the centre of the ramp
    assert float(pixels[0, 0, 0, -1]) - float(pixels[0, 0, 0, 0]) == pytest.approx(255 * 7 / 16, abs=8)
    told: list[str] = []
    open_data(attrs.evolve(data, image_size=(12, 48)), tmp_path, Work(warning=told.append))
    assert told == ["1 picture of less than 12×48 pixels will be enlarged"]


@pytest.mark.parametrize("found", [(31, 17), (17, 31), (12, 8), (8, 12), (400, 3), (5, 5)])
@pytest.mark.parametrize("size", [(12, 8), (8, 12), (1, 30)])
def test_a_picture_is_resized_just_until_it_covers_the_size(found: tuple[int, int], size: tuple[int, int]) -> None:
    image = Image.new("L", (found[1], found[0]), 77)
    made = np.array(fitted(image, size))
    assert made.shape == size
    assert (made == 77).all()  # no border


def test_published_pictures_are_cut_to_rectangles() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8))
    assert crop_and_resize(picture, (218, 178), (72, 56)).size == (56, 72)
    square = np.array(crop_and_resize(picture, (140, 140), (64, 64)))
    assert np.array_equal(np.array(crop_and_resize(picture, (140, 140), (64, 48))), square[:, 8:56])
    large = picture.resize((64, 64))
    assert np.array_equal(np.array(square_centre(large, 64, (64, 48))), np.array(large)[:, 8:56])
    assert np.array_equal(np.array(shrunk(large, (64, 48))), np.array(large)[:, 8:56])
    with pytest.raises(ValueError, match=r"has 64×64 pixels, fewer than data\.image_size=48,66"):
        shrunk(large, (48, 66))


def test_crops_of_rectangles_move_in_both_directions_and_squares_keep_their_draws() -> None:
    @attrs.frozen(kw_only=True)
    class Stored(Data):
        image_size: tuple[int, int]
        channels: int
        stored: tuple[int, int]

        @property
        def stored_size(self) -> tuple[int, int]:
            return self.stored

    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(20), indexing="ij")
    pixels = torch.stack((rows, columns)).expand(400, 2, 9, 20).to(torch.uint8)
    positions = torch.arange(400)
    data = Stored(image_size=(4, 12), channels=2, stored=(9, 20))
    cropped = (Preprocessing(data, (0, 255), 7).training(pixels, positions) * 255).round().long()
    assert cropped.shape == (400, 2, 4, 12)
    corners = cropped[:, :, 0, 0]
    assert set(corners[:, 0].tolist()) == set(range(6))
    assert set(corners[:, 1].tolist()) == set(range(9))
    assert torch.equal(cropped - corners[:, :, None, None], pixels[:, :, :4, :12].long())
    centre = (Preprocessing(data, (0, 255), 7).unit(pixels) * 255).round().long()
    assert centre[0, :, 0, 0].tolist() == [2, 4]
    # the row of a rectangle's crop is that of the square with as many spare rows
    square = Stored(image_size=4, channels=2, stored=(9, 9))
    squares = (Preprocessing(square, (0, 255), 7).training(pixels[..., :9], positions) * 255).round().long()
    assert torch.equal(squares[:, 0, 0, 0], corners[:, 0])
