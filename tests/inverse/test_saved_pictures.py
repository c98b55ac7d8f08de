"""A restored picture as one file like the given one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from ncsnx.data.decoding import decode
from ncsnx.errors import UsageError
from ncsnx.inverse.saved_pictures import check_place, save_like
from ncsnx.space import Space
from ncsnx.work import Work

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COLORS = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(np.uint8)


def saved(folder: Path, given: Image.Image, name: str, to: str, image: torch.Tensor, **fields: Any) -> Image.Image:
    given.save(folder / name, **fields)
    save_like(folder / to, image, Space.with_ends((3, 6, 10), (0.0, 1.0)), folder / name)
    found = Image.open(folder / to)
    found.load()
    return found


def test_a_jpeg_keeps_what_its_file_says_but_the_orientation_which_the_pixels_have_now(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    exif[Base.Software] = "Some 1.0"
    exif.get_ifd(IFD.GPSInfo)[2] = (50.0, 3.0, 1.0)
    fields = {"exif": exif, "icc_profile": PROFILE, "dpi": (300, 300)}
    upright = torch.linspace(0, 1, 180).view(3, 10, 6)
    found = saved(tmp_path, Image.fromarray(COLORS), "given.jpg", "found.jpg", upright, **fields)
    assert (found.size, found.format, found.info["icc_profile"], found.info["dpi"]) == (
        (6, 10),
        "JPEG",
        PROFILE,
        (300, 300),
    )
    assert found.getexif().get(Base.Orientation) is None
    assert found.getexif()[Base.Software] == "Some 1.0"
    assert found.getexif().get_ifd(IFD.GPSInfo)[2] == (50.0, 3.0, 1.0)


@pytest.mark.parametrize("to", ["found.png", "found.webp", "found.tif"])
def test_transparency_stays_and_is_enlarged_with_the_picture(to: str, tmp_path: Path) -> None:
    given = Image.fromarray(COLORS).convert("RGBA")
    given.putalpha(Image.fromarray(np.repeat(np.array([[0, 200]], np.uint8), 5, axis=1).repeat(6, axis=0)))
    image = torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(0))
    found = saved(tmp_path, given, "given.png", to, image)
    assert found.mode == "RGBA"
    opacity = np.asarray(found.getchannel("A"))
    assert opacity.shape == (12, 20)
    assert (opacity[:, :8].max(), opacity[:, -8:].min()) == (0, 200)
    assert saved(tmp_path, given, "given.png", "found.jpg", image).mode == "RGB"


def test_gray_stays_gray_with_its_16_bits_and_without_a_profile_for_colors(tmp_path: Path) -> None:
    gray = torch.linspace(0, 1, 60).view(1, 6, 10).expand(3, 6, 10)
    deep = Image.fromarray(257 * COLORS[..., 0].astype(np.uint16))
    found = saved(tmp_path, deep, "deep.png", "found.tif", gray)
    assert found.mode == "I;16"
    assert np.array_equal(np.asarray(found).ravel(), np.linspace(0, 65_535, 60, dtype=np.float32).round())
    assert saved(tmp_path, deep, "deep.png", "found.jpg", gray).mode == "L"
    shown = saved(tmp_path, Image.fromarray(COLORS), "colors.png", "found.png", gray, icc_profile=PROFILE)
    assert (shown.mode, "icc_profile" in shown.info) == ("L", False)
    cmyk = saved(tmp_path, Image.fromarray(COLORS).convert("CMYK"), "cmyk.jpg", "found.png", gray.flip(0) * 0.5 + 0.1)
    assert decode((tmp_path / "found.png").read_bytes(), "found.png").size == cmyk.size


def test_numbers_are_the_datas_own(tmp_path: Path) -> None:
    image = torch.linspace(-3, 9, 12).view(1, 3, 4)
    save_like(tmp_path / "found.npy", image, Space.with_ends((1, 3, 4), None), None)
    assert np.array_equal(np.load(tmp_path / "found.npy")[..., 0], image[0].double().numpy())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("given.png", "is the given picture, which is kept"),
        ("there.png", "already exists"),
        ("folder.png", "is a folder"),
        ("other.gif", r"expected a file that ends in one of \.png, \.jpg"),
        ("nowhere/other.png", "there is no folder"),
    ],
)
def test_a_file_that_would_lose_something_or_cannot_be_written_is_refused(name: str, told: str, tmp_path: Path) -> None:
    for there in ("given.png", "there.png"):
        Image.fromarray(COLORS).save(tmp_path / there)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match=told):
        check_place(tmp_path / name, tmp_path / "given.png", overwrite=False)
    check_place(tmp_path / "there.png", tmp_path / "given.png", overwrite=True)


@pytest.mark.parametrize("name", ["given.jfif", "given"])
def test_a_file_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[Base.Software] = "Some 1.0"
    found = saved(tmp_path, Image.fromarray(COLORS), name, "found.jpg", torch.zeros(3, 6, 10), format="JPEG", exif=exif)
    assert found.getexif()[Base.Software] == "Some 1.0"


def test_metadata_that_the_format_cannot_take_is_left_out_with_a_warning(tmp_path: Path) -> None:
    exif, told = Image.Exif(), list[str]()
    exif[Base.ImageDescription] = "a" * 70_000
    Image.fromarray(COLORS).save(tmp_path / "given.png", exif=exif)
    space = Space.with_ends((3, 6, 10), (0.0, 1.0))
    save_like(tmp_path / "found.jpg", torch.zeros(3, 6, 10), space, tmp_path / "given.png", Work(warning=told.append))
    with Image.open(tmp_path / "found.jpg") as found:
        assert (found.size, len(found.getexif())) == ((10, 6), 0)
    assert len(told) == 1
    assert "found.jpg has no EXIF data, color profile and resolution: " in told[0]


@pytest.mark.filterwarnings("error")
def test_damaged_metadata_says_nothing(tmp_path: Path) -> None:
    header = b"Exif\x00\x00II*\x00\x08\x00\x00\x00"
    damaged = header + b"\x03\x00" + b"\x0e\x01\x02\x00\xff\xff\x00\x00\xff\xff\xff\x00" + b"\x12\x01\x03\x00\x01\x00"
    saved(tmp_path, Image.fromarray(COLORS), "given.jpg", "found.jpg", torch.zeros(3, 6, 10), exif=damaged)
