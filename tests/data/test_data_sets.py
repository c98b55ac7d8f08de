"""Conformance of every registered data set, built in or from a package."""

import re
from pathlib import Path
from typing import cast

import attrs
import pytest
import torch

from ncsnx.config import Data, Digits, Phantoms
from ncsnx.config.variants import variants
from ncsnx.data import DataMissingError, data_set, data_set_of
from ncsnx.errors import NcsnxError
from ncsnx.work import Work
from tests.config.examples import every_variant


@pytest.fixture(params=variants(Data).values(), ids=lambda kind: kind.__name__)
def data(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    """A configuration of the class, by its defaults if all fields have one; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    if request.param is Phantoms:
        return Phantoms(image_size=8, count=16)  # drawing the default takes seconds
    if all(field.default is not attrs.NOTHING for field in attrs.fields(request.param)):
        return cast(Data, request.param())
    return next(one.data for one in every_variant().values() if type(one.data) is request.param)


def test_every_reader_gives_images_as_declared_or_says_what_is_missing(data: Data, tmp_path: Path) -> None:
    found = data_set_of(data)
    try:
        opened, again = (found.read(data, tmp_path, Work()) for _ in range(2))
    except DataMissingError:
        return
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
        assert torch.equal(split.read(some).pixels, images.pixels[some])
    ids = torch.cat([images.ids for images in whole])
    assert len(ids.unique()) == len(ids), "no image is in both splits, or twice in one"


def test_a_configuration_without_a_reader_says_how_to_register_one() -> None:
    class Unread(Data):
        pass

    with pytest.raises(NcsnxError, match="no reader is registered for Unread: the package that defines it must name"):
        data_set_of(Unread())


def test_a_second_reader_is_refused() -> None:
    with pytest.raises(ValueError, match="Digits already has a reader"):
        data_set(Digits)(lambda data, folder, work: None)  # type: ignore[arg-type, return-value]
