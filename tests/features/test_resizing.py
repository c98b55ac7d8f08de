"""Images in memory have the same features as in clean-fid, which reads them from PNG files."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from ncsnx.errors import NcsnxError
from ncsnx.features.inception import InceptionNetwork
from ncsnx.features.torchscript import CleanResizer
from ncsnx.images import save_png
from tests.features.scripted import StandIn, pictures, scripted


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_memory_have_the_features_that_clean_fid_finds_in_their_png_files(
    channels: int, tmp_path: Path
) -> None:
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
