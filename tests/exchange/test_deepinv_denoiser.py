"""Denoisers of deepinv as models: the same images, by their address and by `Model.of`."""

import zipfile
from pathlib import Path

import attrs
import pytest
import torch

import ncsnx
from ncsnx.errors import NcsnxError
from ncsnx.exchange.sources import deepinv_denoiser
from tests.exchange.test_published_files import Payload
from tests.training.tiny import command

deepinv = pytest.importorskip("deepinv")


@torch.no_grad()
def test_a_file_of_weights_gives_the_denoiser_s_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    denoiser = deepinv.models.FFDNet(img_channels=1, pretrained=None).eval()
    torch.save(denoiser.state_dict(), tmp_path / "ffdnet.pth")
    result = command("import", f"deepinv:FFDNet={tmp_path / 'ffdnet.pth'}", "--run", "ffdnet", folder=tmp_path).done()
    assert "trained for noise of at most 0.294" in result.err
    model = ncsnx.load(tmp_path / "runs" / "ffdnet")
    y, sigma = torch.rand(3, 1, 16, 24), torch.tensor([0.02, 0.1, 0.29])
    expected = torch.cat([denoiser(one[None], level) for one, level in zip(y, sigma, strict=True)])
    assert (model.denoise(y, sigma) - expected).abs().max() <= 1e-5 * expected.abs().max()
    with pytest.raises(NcsnxError, match="precision=bf16 rounds the input and the output of DeepinvNetwork"):
        ncsnx.load(tmp_path / "runs" / "ffdnet", precision="bf16")
    wrapped = ncsnx.Model.of(denoiser, shape=(1, 16, 24), sigma_max=0.29, ends=(0.0, 1.0))
    assert (wrapped.denoise(y, sigma) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.slow
@torch.no_grad()
def test_a_generative_network_gives_the_images_of_the_denoiser_with_its_units(tmp_path: Path) -> None:
    torch.manual_seed(0)
    denoiser = deepinv.models.NCSNpp(pretrained=None, pixel_std=0.5, _was_trained_on_minus_one_one=True).eval()
    for parameter in denoiser.parameters():  # some begin at 0
        parameter.add_(0.01 * torch.randn_like(parameter))
    torch.save(denoiser.state_dict(), tmp_path / "faces.pt")
    command("import", f"deepinv:NCSNpp={tmp_path / 'faces.pt'}", "--run", "faces", folder=tmp_path)
    model = ncsnx.load(tmp_path / "runs" / "faces")
    y, sigma = torch.rand(2, 3, 64, 64), torch.tensor([0.1, 20.0])
    expected = denoiser(y, sigma)
    assert (model.denoise(y, sigma) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_mistakes_get_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))
    unreachable = attrs.evolve(deepinv_denoiser._KNOWN["DRUNet"], weights="http://127.0.0.1:9/drunet.pth")
    monkeypatch.setitem(deepinv_denoiser._KNOWN, "DRUNet", unreachable)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    mark = tmp_path / "mark"
    torch.save({"weight": Payload(eval, f"open({str(mark)!r}, 'w')")}, tmp_path / "hostile.pth")
    (tmp_path / "bad.pth").write_bytes(b"x" * 100)
    torch.save({"weight": torch.zeros(1, 1).expand(10**5, 10**5)}, tmp_path / "wide.pth")
    with zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/data/0", bytes(10**8))
    for address, told in (
        ("deepinv:DnCNN", "expected one of DRUNet, FFDNet, NCSNpp; in Python, ncsnx.Model.of takes any denoiser"),
        ("deepinv:DRUNet=none.pth", "cannot read none.pth"),
        (f"deepinv:DRUNet={tmp_path / 'bad.pth'}", "is damaged or not a file of weights: "),
        (
            f"deepinv:DRUNet={tmp_path / 'hostile.pth'}",
            "it asks for '__builtin__.eval', and only tensors, numbers and text",
        ),
        (f"deepinv:DRUNet={tmp_path / 'wide.pth'}", "it declares more numbers than it has bytes"),
        (f"deepinv:DRUNet={tmp_path / 'packed.pth'}", "is a compressed zip"),
        ("deepinv:DRUNet=", "expected one of DRUNet, FFDNet, NCSNpp"),
        ("deepinv:DRUNet", "cannot download drunet.pth from http://127.0.0.1:9/drunet.pth"),
        ("nothing.xyz", "'nothing.xyz' does not exist; expected "),
    ):
        result = command("import", address, folder=tmp_path)
        assert result.code in (1, 2)
        assert told in result.err
        assert not (tmp_path / "runs").exists()
        assert not mark.exists()
