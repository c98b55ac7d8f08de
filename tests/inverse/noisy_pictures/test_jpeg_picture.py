"""JPEGs as measurements: the map, the box of the coefficients, and tasks from files."""

import io
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional

from ncsnx.data.decoding import BrokenImageError, decode
from ncsnx.data.jpeg import Jpeg, dct_matrix
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse import Task
from ncsnx.inverse.noisy_pictures.jpeg_picture import JpegPicture, restore_jpeg
from tests.spaces import unit_space

PHOTO = Image.fromarray(load_sample_image("flower.jpg")[100:300:2, 200:400:2])
SHAPE = (3, 43, 57)
CROP = PHOTO.crop((0, 0, 57, 43))


def task_of(folder: Path, image: Image.Image = CROP, *, channels: int = 3, turn: int = 1, **options: Any) -> Task:
    """The task of a picture that is saved as a JPEG. turn: its EXIF orientation."""
    path, exif = folder / "a.jpg", Image.Exif()
    exif[274] = turn
    image.save(path, exif=exif, **{"quality": 50, **options})
    upright = decode(path.read_bytes(), "a.jpg")
    return restore_jpeg(path, unit_space(channels, upright.height, upright.width))


def map_of(task: Task) -> JpegPicture:
    assert isinstance(task.operator, JpegPicture)
    return task.operator


def pixels(image: Image.Image, turn: int = 1) -> Tensor:
    """The picture upright, (1, C, H, W) float64 from 0 to 1."""
    exif = image.getexif()
    exif[274] = turn
    upright = np.asarray(ImageOps.exif_transpose(image)) / 255
    return torch.from_numpy(upright).reshape(1, *upright.shape[:2], -1).movedim(-1, 1)


def beyond_box(task: Task, x: Tensor) -> Tensor:
    """How far the coefficients of an image are from the file's, in half steps: at most 1 inside of the box."""
    half_steps = task.noise * 3**0.5
    return (map_of(task).apply(x) - task.values).abs() / half_steps


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("turn", range(1, 9))
def test_the_map_has_its_adjoint_and_agrees_with_the_picture(tmp_path: Path, turn: int, subsampling: int) -> None:
    task = task_of(tmp_path, turn=turn, subsampling=subsampling)
    task.operator.check()
    x = pixels(CROP, turn)
    assert map_of(task).apply(x.float()).dtype == torch.float32
    away = beyond_box(task, x)
    # some coefficients are near the middle of two steps, and encoders round pixels and means of chroma before
    assert float((away > 1).double().mean()) < 0.005
    assert float(away.max()) < 1.5


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_coefficients_are_those_of_the_planes(tmp_path: Path, subsampling: int) -> None:
    task = task_of(tmp_path, PHOTO.crop((0, 0, 32, 48)), subsampling=subsampling)
    x = torch.rand(2, 3, 48, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = map_of(task).apply(x)[1].numpy()
    red, green, blue = x[1].numpy()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    down, across = [(1, 1), (1, 2), (2, 2)][subsampling]
    chroma = (0.564334 * (blue - luma)).reshape(48 // down, down, 32 // across, across).mean(axis=(1, 3))
    dct, chroma_start = dct_matrix(), 48 * 32
    np.testing.assert_allclose(found[:64].reshape(8, 8), dct @ luma[:8, :8] @ dct.T, atol=1e-5)
    np.testing.assert_allclose(found[64:128].reshape(8, 8), dct @ luma[:8, 8:16] @ dct.T, atol=1e-5)
    np.testing.assert_allclose(
        found[chroma_start : chroma_start + 64].reshape(8, 8), dct @ chroma[:8, :8] @ dct.T, atol=1e-5
    )


@pytest.mark.parametrize(("size", "is_whole"), [((16, 32), True), ((9, 19), False)])
def test_the_norm_bounds_the_largest_singular_value(tmp_path: Path, size: tuple[int, int], is_whole: bool) -> None:
    map = map_of(task_of(tmp_path, PHOTO.crop((0, 0, *size)), subsampling=2))
    count = 3 * size[0] * size[1]
    rows = map.apply(torch.eye(count, dtype=torch.float64).view(count, *map.shape))
    largest = float(torch.linalg.matrix_norm(rows, 2))
    assert map.norm >= largest * (1 - 1e-6)
    assert map.norm <= largest * (1 + 1e-6 if is_whole else 1.5)


def smoothed(x: Tensor, width: int) -> Tensor:
    return functional.avg_pool2d(x.float(), width, stride=1, padding=width // 2, count_include_pad=False)


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_the_box_moves_an_image_to_the_coefficients_and_no_further(tmp_path: Path, turn: int, subsampling: int) -> None:
    pale = PHOTO.crop((0, 0, 64, 48)).point(lambda value: 64 + value // 2)
    task = task_of(tmp_path, pale, turn=turn, subsampling=subsampling)
    map, x = map_of(task), smoothed(pixels(pale, turn), 5)
    assert float((beyond_box(task, x) > 1).double().mean()) > 0.05
    found = map.in_box(x, task.values)
    assert float(beyond_box(task, found).max()) < 1.001
    torch.testing.assert_close(map.in_box(found, task.values), found, rtol=0, atol=1e-5)
    # coefficients that were in the box are those of the image
    before, after = beyond_box(task, x), beyond_box(task, found)
    torch.testing.assert_close(after[before <= 1], before[before <= 1], rtol=0, atol=1e-3)
    assert float(beyond_box(task, map.finished_mean(x, task.values)).max()) < 0.601


def test_an_alternative_may_be_any_picture_that_gives_the_file_but_a_mean_is_nearer_to_its_middle(
    tmp_path: Path,
) -> None:
    pale = PHOTO.crop((0, 0, 64, 48)).point(lambda value: 64 + value // 2)
    task = task_of(tmp_path, pale, subsampling=0)
    map = map_of(task)
    possible = map.in_box(pixels(pale), task.values)
    assert float(beyond_box(task, possible).max()) > 0.9
    place = torch.tensor([0])
    torch.testing.assert_close(task.finished(possible, place), possible, rtol=0, atol=1e-5)
    assert float(beyond_box(task, task.finished(possible, place, are_means=True)).max()) < 0.601


@pytest.mark.parametrize("subsampling", [0, 2])
def test_finished_images_are_pictures_near_the_coefficients_at_edges_too(tmp_path: Path, subsampling: int) -> None:
    task = task_of(tmp_path, subsampling=subsampling)
    found = map_of(task).finished_mean(smoothed(pixels(CROP), 5), task.values)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float((beyond_box(task, found) > 1).double().mean()) < 0.002


def test_compressed_again_a_finished_image_gives_the_same_coefficients(tmp_path: Path) -> None:
    task = task_of(tmp_path, PHOTO.crop((0, 0, 96, 96)), quality=75, subsampling=0)
    smooth = smoothed(pixels(PHOTO.crop((0, 0, 96, 96))), 3)
    found = (255 * map_of(task).finished_mean(smooth, task.values)).round()[0].movedim(0, -1).byte().numpy()
    content = io.BytesIO()
    Image.fromarray(found).save(content, "JPEG", quality=75, subsampling=0)
    jpeg = Jpeg.of(content.getvalue(), "again")
    assert jpeg is not None
    again = np.concatenate([plane.values.ravel() for plane in jpeg.planes()])
    first = np.concatenate([plane.values.ravel() for plane in map_of(task).planes])
    assert np.mean(again == first) > 0.995


def test_the_decoded_picture_is_its_noisy_picture(tmp_path: Path) -> None:
    task = task_of(tmp_path, turn=6)
    with Image.open(tmp_path / "a.jpg") as image:
        decoded = pixels(image.copy(), 6)
    assert task.inputs is not None
    noisy = map_of(task).noisy(task.values, task.noise, lambda: torch.full((1, *task.operator.shape), torch.nan))
    for found in (noisy, task.inputs):
        torch.testing.assert_close(found.double(), decoded, rtol=0, atol=1e-6)
    jpeg = Jpeg.of((tmp_path / "a.jpg").read_bytes(), "a.jpg")
    assert jpeg is not None
    assert map_of(task).deviation(task.noise) == jpeg.sigma_in_box
    assert (map_of(task).evaluations, task.name, task.rule) == (1, "jpeg", "cg")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_gray_picture_is_one_plane_with_noise_in_the_colors(tmp_path: Path, mode: str) -> None:
    """Stored as one component, or as three of which two are empty."""
    gray = CROP.convert("L")
    task = task_of(tmp_path, gray.convert(mode))
    map = map_of(task)
    map.check()
    assert map.measured_shape == (48 * 64,)
    assert map.evaluations == 4
    assert map.deviation(task.noise) == pytest.approx(3**0.5 * map.sigma)
    draws = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    noisy = map.noisy(task.values, task.noise, lambda: draws)
    torch.testing.assert_close(noisy.mean(dim=1), map.decoded.mean(dim=0)[None], rtol=0, atol=1e-5)
    assert float((noisy - map.decoded).square().sum(dim=1).mean().sqrt()) == pytest.approx(6**0.5 * map.sigma, rel=0.05)
    finished = map.finished_mean(noisy, task.values)
    assert torch.equal(finished[:, 0], finished[:, 1])
    assert float((beyond_box(task, finished) > 1.01).double().mean()) < 0.002
    assert float((beyond_box(task, pixels(gray).expand(-1, 3, -1, -1)) > 1).double().mean()) < 0.005


def test_a_model_of_one_channel_takes_a_gray_jpeg_as_it_is(tmp_path: Path) -> None:
    task = task_of(tmp_path, CROP.convert("L"), channels=1)
    map = map_of(task)
    map.check()
    assert (map.evaluations, map.deviation(task.noise)) == (1, map.sigma)
    assert map.norm == pytest.approx(((1 + 5) * (1 + 7)) ** 0.5), "the edge of 5 and 7 repeated rows and columns"


def test_alternatives_agree_with_the_coefficients(tmp_path: Path) -> None:
    """By the rule `cg`, whose correction of an image that is far away brings it near the measurement."""
    task = task_of(tmp_path, PHOTO.crop((0, 0, 32, 32)), quality=75)
    space = unit_space(3, 32, 32)
    rule = task.ruled(space, 0.01, 0, 1)(torch.zeros(1, dtype=torch.int64))
    x, sigma = torch.full((1, 3, 32, 32), 0.5), torch.full((1, 1, 1, 1), 5.0)
    _, pull = rule.scored(lambda x, _: (0.5 - x) / sigma**2, x, sigma)
    found = x + sigma**2 * pull
    assert float(beyond_box(task, found).square().mean()) < 0.02 * float(beyond_box(task, x).square().mean())


def test_what_isnt_a_jpeg_of_this_kind_is_refused(tmp_path: Path) -> None:
    space = unit_space(*SHAPE)
    CROP.save(tmp_path / "a.png")
    CROP.convert("CMYK").save(tmp_path / "cmyk.jpg")
    CROP.save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    with pytest.raises(UsageError, match="expected a JPEG, found a picture of another format"):
        restore_jpeg(tmp_path / "a.png", space)
    with pytest.raises(UsageError, match="expected a JPEG, found a folder"):
        restore_jpeg(tmp_path, space)
    with pytest.raises(UsageError, match="gray and YCbCr JPEGs only"):
        restore_jpeg(tmp_path / "cmyk.jpg", space)
    with pytest.raises(BrokenImageError, match=r"half.jpg"):
        restore_jpeg(tmp_path / "half.jpg", space)
    with pytest.raises(NcsnxError, match="43×57"):
        restore_jpeg(tmp_path / "whole.jpg", attrs.evolve(space, shape=(3, 48, 48)))
