"""TorchScript networks of users, and images resized as clean-fid does."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ncsnx.config import Digits
from ncsnx.config.feature_networks import TorchScript
from ncsnx.errors import NcsnxError
from ncsnx.features.extractors import build_features
from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.features.inception import InceptionNetwork
from ncsnx.features.real_images import DataSource
from ncsnx.features.torchscript import CleanResizer
from ncsnx.images import save_png
from ncsnx.runtime import Runtime
from ncsnx.work import Work
from tests.features.scripted import (
    GrayOnly,
    Images,
    PooledFeatures,
    StandIn,
    Three,
    WithLogits,
    pictures,
    scripted,
    sha256,
)


def opened(file: Path | str, tmp_path: Path, image_size: int | None = 24, data: bool = True) -> FeatureNetwork:
    config = TorchScript(file=str(file), image_size=image_size)
    source = DataSource(data=Digits(), folder=tmp_path) if data else None
    return build_features(config, source, tmp_path, Runtime.choose(device="cpu", threads=1), Work())


def test_a_network_gets_images_resized_by_clean_fid_and_its_features_come_back(tmp_path: Path) -> None:
    network = opened(scripted(PooledFeatures(features=5), tmp_path / "net.pt"), tmp_path)
    images = pictures(3, 1)
    seen = network(images)
    assert network.facts == {
        "type": "torchscript",
        "sha256": sha256(tmp_path / "net.pt"),
        "dimensions": 5,
        "images": "clean-fid bicubic 24",
    }
    assert network.name == f"TorchScript net.pt {network.facts['sha256'][:8]}"
    assert not network.has_logits
    assert torch.equal(seen.features, PooledFeatures(features=5)(CleanResizer(24)(images)))
    assert seen.logits is None


def test_a_tuple_is_features_and_logits(tmp_path: Path) -> None:
    network = opened(scripted(WithLogits(), tmp_path / "net.pt"), tmp_path)
    seen = network(pictures(3, 3))
    assert (network.dimensions, network.has_logits) == (6, True)
    assert seen.logits is not None
    assert torch.equal(seen.logits, seen.features[:, :4] * 2)


def test_without_an_image_size_it_gets_the_images_as_they_are(tmp_path: Path) -> None:
    path, images = scripted(GrayOnly(), tmp_path / "net.pt"), pictures(3, 1)
    network = opened(path, tmp_path, image_size=None)
    assert (network.dimensions, network.facts["images"]) == (5, "as they are")
    assert torch.equal(network(images).features, GrayOnly()(images.float()))
    with pytest.raises(NcsnxError, match="the shape of images is unknown; set image_size"):
        opened(path, tmp_path, image_size=None, data=False)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (Images(), r"returned of shape \(1, 3, 24, 24\); expected features of shape \(1, D\)"),
        (Three(), "returned tuple; expected features"),
        (GrayOnly(), r"the network fails on images of shape \(1, 3, 24, 24\)"),
    ],
    ids=["images", "three", "gray only"],
)
def test_a_network_that_breaks_the_contract_is_refused(broken: nn.Module, told: str, tmp_path: Path) -> None:
    path = scripted(broken, tmp_path / "net.pt")
    with pytest.raises(NcsnxError, match=rf"net\.pt: .*{told}"):
        opened(path, tmp_path)


def test_a_network_whose_batch_normalization_is_in_evaluation_mode_is_taken(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    assert opened(scripted(network.train(), tmp_path / "net.pt"), tmp_path).dimensions == 24


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\3\4 and nothing behind it"], ids=["empty", "page", "cut"])
def test_a_file_that_is_no_torchscript_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    with pytest.raises(
        NcsnxError, match=rf"net\.pt \({len(content)} bytes\) cannot be loaded as a TorchScript file"
    ) as caught:
        opened(path, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(math.floor, path)  # a pickle of a function, as malicious ones are
    with pytest.raises(NcsnxError, match="cannot be loaded as a TorchScript file"):
        opened(path, tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_memory_have_the_features_that_clean_fid_finds(channels: int, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore warnings of other packages at import
        from cleanfid import fid
    images = pictures(7, channels, side=16)
    files = [tmp_path / f"{number}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        save_png(file, image)
    path = scripted(StandIn(), tmp_path / "net.pt")
    network = InceptionNetwork(path, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        theirs = fid.get_files_features(
            sorted(map(str, files)),
            model=lambda x: network._layers((x - 128) / 128).view(len(x), 2048),
            mode="clean",
            num_workers=0,
            batch_size=7,
            device=torch.device("cpu"),
            verbose=False,
        )
    assert np.array_equal(network(images).features.numpy(), theirs)


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    images = pictures(2, 3, side=16)
    assert torch.equal(CleanResizer(16)(images), images.float())


def test_two_channels_are_refused_with_what_to_use_instead() -> None:
    with pytest.raises(NcsnxError, match="1 or 3 channels, not 2; take a classifier, or a TorchScript"):
        CleanResizer()(pictures(1, 2))
