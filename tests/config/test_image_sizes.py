"""Sizes of images as one number or as a pair: what is accepted, and that squares stay as they were saved."""

from typing import Any

import pytest

from ncsnx.config import Arrays, CelebA, Data, Experiment, NCSNv2, register
from ncsnx.config.codec import ConfigError, differences, identity
from ncsnx.config.converter import structure, unstructure
from ncsnx.config.overrides import OverrideError, apply_overrides, parse_overrides
from tests.golden_networks import small_experiment

RECTANGLE = Arrays(path="x.npy", image_size=(8, 12))


def experiment(data: Data) -> Experiment:
    return small_experiment(NCSNv2(width=4), data)


def test_a_pair_of_equal_numbers_is_the_number() -> None:
    pair = Arrays(path="x.npy", image_size=(8, 8), random_crop=(9, 9))
    square = Arrays(path="x.npy", image_size=8, random_crop=9)
    assert pair == square
    assert unstructure(pair) == unstructure(square)
    assert unstructure(square)["image_size"] == 8
    assert identity(experiment(pair)) == identity(experiment(square)) != identity(experiment(RECTANGLE))
    written: Any = [8, 12]  # as in a file of JSON, or typed in Python
    assert register(experiment(Arrays(path="x.npy", image_size=written))).data == RECTANGLE


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("data.image_size=8,12", (8, 12)),
        ("data.image_size=12,8 data.random_crop=12,9", (12, 8)),
        ("data.image_size=8,8", 8),
        ("data.image_size=2k", 2000),
    ],
)
def test_a_size_is_typed_as_one_number_or_two(words: str, found: object) -> None:
    before = experiment(Arrays(path="x.npy", image_size=4))
    changed = apply_overrides(before, parse_overrides(words.split()))
    assert isinstance(changed.data, Arrays)
    assert changed.data.image_size == found
    shown = {one.path: str(one) for one in differences(before, changed)}
    text = "8,12" if found == (8, 12) else "12,8" if found == (12, 8) else str(found)
    assert shown["data.image_size"] == f"data.image_size: 4 → {text}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data.image_size=8,", "expected a whole number such as 64, or height and width such as 8,12, found '8,'"),
        ("data.image_size=8x12", "such as 8,12, found '8x12'"),
        ("data.image_size=0,12", "data.image_size: must be between 1 and 16,384, not 0"),
        ("data.image_size=12,16385", "data.image_size: must be between 1 and 16,384, not 16,385"),
        ("data.random_crop=8,11", "data.random_crop: must be at least image_size=8,12, not 8,11"),
    ],
)
def test_another_size_is_refused_with_what_is_accepted(words: str, message: str) -> None:
    with pytest.raises(OverrideError, match=message):
        apply_overrides(experiment(RECTANGLE), parse_overrides([words]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("8", "image_size: expected a whole number, or a list of height and width, found text '8'"),
        ([8], r"image_size: expected a list of 2 items, found list \[8\]"),
        ([8, 12.0], r"image_size\[1\]: expected a whole number, found number 12.0"),
        (None, "image_size: expected a whole number, or a list of height and width, found none"),
    ],
)
def test_another_value_in_a_saved_file_is_refused(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        structure({**unstructure(RECTANGLE), "image_size": value}, Data)


def test_celeba_is_cropped_within_its_pictures() -> None:
    assert CelebA(image_size=(72, 56), crop=(218, 178)).shape == (3, 72, 56)
    for crop in ((218, 200), (200, 200)):
        with pytest.raises(ValueError, match="crop must have a width of at most 178, not 200"):
            CelebA(crop=crop)
    with pytest.raises(ValueError, match="crop must be between 1 and 218, not 219"):
        CelebA(crop=(219, 178))
