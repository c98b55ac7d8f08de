"""Networks of timm as features: what it would compute itself, with weights that are the same at every use."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ncsnx.config import DINOv2, Timm
from ncsnx.config.overrides import chosen_features
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.features.timm_network import TimmNetwork, open_timm, preprocessing
from ncsnx.features.timm_network import _require_recorded as require_recorded
from ncsnx.work import SILENT

timm = pytest.importorskip("timm")
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "efficientnet_lite0"])
@torch.no_grad()
def test_features_are_those_of_timm(name: str) -> None:
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=0).eval()
    images = torch.randint(0, 256, (2, 3, 40, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    network = TimmNetwork(Timm(network=name), module, CPU)
    config = timm.data.resolve_model_data_config(module)
    height, width = config["input_size"][1:]
    kernel = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[config["interpolation"]]
    x = []
    for one in images:  # by hand: the whole image resized, then normalized
        resized = Image.fromarray(one.permute(1, 2, 0).numpy()).resize((width, height), kernel)
        x.append((torch.tensor(list(resized.tobytes())).view(height, width, 3).permute(2, 0, 1) / 255).float())
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = module((torch.stack(x) - mean) / std)
    found = network(images).features
    assert found.shape == (2, network.dimensions)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    gray = network(images[:, :1]).features
    assert gray.equal(network(images[:, :1].expand(-1, 3, -1, -1)).features)


def test_weights_come_from_a_file_which_must_fit(tmp_path: Path) -> None:
    module = timm.create_model("resnet18", num_classes=0)
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, tmp_path / "w.safetensors")
    given = chosen_features("timm:resnet18", DINOv2())
    assert given == Timm(network="resnet18")
    network = open_timm(Timm(network="resnet18", file=str(tmp_path / "w.safetensors")), tmp_path, CPU, SILENT)
    assert network.name.startswith("resnet18 ")
    for file, told in (("none.pth", "cannot read"), ("w.safetensors", "does not hold the weights")):
        with pytest.raises(NcsnxError, match=told):
            open_timm(Timm(network="resnet34", file=str(tmp_path / file)), tmp_path, CPU, SILENT)
    with pytest.raises(UsageError, match="timm has no network 'resnet1'"):
        open_timm(Timm(network="resnet1"), tmp_path, CPU, SILENT)


def test_weights_that_changed_since_their_first_use_are_refused(tmp_path: Path) -> None:
    module, config = timm.create_model("resnet18", num_classes=0), Timm(network="resnet18")
    for _ in range(2):
        require_recorded(config, module, tmp_path)
    module.conv1.weight.data += 1
    with pytest.raises(NcsnxError, match=r"not [0-9a-f]{64} as at their first use"):
        require_recorded(config, module, tmp_path)


def test_weights_are_recorded_for_each_size_that_their_positions_are_resized_to(tmp_path: Path) -> None:
    for size in (32, 64, 32):
        config = Timm(network="vit_tiny_patch16_224", image_size=size)
        module = timm.create_model(config.network, num_classes=0, img_size=size)
        for name, weights in sorted(module.state_dict().items()):
            weights.fill_(len(name))
        require_recorded(config, module, tmp_path)
    assert len(list(tmp_path.rglob("*.sha256"))) == 2


def test_dinov2_is_that_of_the_paper_in_form() -> None:
    config = chosen_features("dinov2", Timm(network="resnet18"))
    assert config == DINOv2()
    with torch.device("meta"):
        module = timm.create_model(config.network, num_classes=0, img_size=config.image_size)
    asked = preprocessing(config, module)
    assert (module.num_features, module.global_pool, asked["input_size"]) == (1024, "token", (3, 224, 224))
    assert (asked["mean"], asked["interpolation"]) == ((0.485, 0.456, 0.406), "bicubic")
