"""Models of diffusers: the same scores and trajectories as its own code, from its own folders."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ncsnx
from ncsnx.config import ConsistentAnnealed, EulerAncestral, TrainedLevels
from ncsnx.errors import NcsnxError
from ncsnx.exchange.model_source import source_of
from ncsnx.runs.folder import Run
from ncsnx.samplers.building import build_sampler
from ncsnx.sampling.model import Model
from ncsnx.work import SILENT
from tests.features.scripted import PooledFeatures, scripted
from tests.training.tiny import command, files

diffusers = pytest.importorskip("diffusers")
QUICK = ("--features", "classifier", "features.steps=30", "features.width=8")
STEPS = (0, 1, 10, 100, 500, 999)
SCHEDULERS: dict[str, dict[str, Any]] = {
    "linear": {},
    "scaled": {"prediction_type": "sample", "beta_schedule": "scaled_linear"},
    "cosine": {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"},
    "listed": {"trained_betas": torch.linspace(1e-4, 0.03, 400).tolist(), "num_train_timesteps": 400},
    "no_signal": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
}


def unet(**changes: Any) -> Any:
    """A U-Net of random weights whose last layers aren't nearly 0."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (16, 32), "norm_num_groups": 8, "attention_head_dim": 8, "layers_per_block": 1}
    made = diffusers.UNet2DModel(sample_size=8, in_channels=1, out_channels=1, **{**blocks, **sizes, **changes})
    for weights in made.parameters():
        weights.data += 0.05 * torch.randn_like(weights)
    return made.eval()


def saved(folder: Path, scheduler: dict[str, Any], **changes: Any) -> Path:
    """A folder as diffusers writes it."""
    diffusers.DDPMPipeline(unet(**changes), diffusers.DDPMScheduler(**scheduler)).save_pretrained(folder)
    return folder


def imported(folder: Path) -> Model:
    """The model of a folder, by the command."""
    command("import", str(folder), folder=folder.parent).done()
    return ncsnx.load(folder.parent / "runs" / folder.name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("diffusers") / "tiny", {})


@pytest.mark.parametrize("name", SCHEDULERS)
@torch.no_grad()
def test_scores_are_those_of_diffusers_at_every_kind_of_step(name: str, tmp_path: Path) -> None:
    model = imported(saved(tmp_path / name, SCHEDULERS[name]))
    network, scheduler = unet(), diffusers.DDPMScheduler(**SCHEDULERS[name])
    z = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for step in (min(step, len(model.levels) - 1) for step in STEPS):
        kept = scheduler.alphas_cumprod[step].double()
        sigma = float(((1 - kept) / kept).sqrt())
        assert model.levels[::-1][step] == pytest.approx(sigma, rel=1e-12)
        out = network(z, torch.tensor([step])).sample.double()
        epsilon = {
            "epsilon": out,
            "sample": (z - kept.sqrt() * out) / (1 - kept).sqrt(),
            "v_prediction": kept.sqrt() * out + (1 - kept).sqrt() * z,
        }[scheduler.config.prediction_type]
        x = (z.double() * (1 + sigma**2) ** 0.5).float()
        ours = model.network.scaled_score(x, torch.full((2,), sigma))
        assert (ours + epsilon).abs().max() <= 1e-5 * epsilon.abs().max()


@pytest.mark.parametrize("name", ["linear", "scaled", "cosine"])
@torch.no_grad()
def test_a_trajectory_of_50_steps_is_that_of_its_ddim_scheduler(name: str, tmp_path: Path) -> None:
    model = imported(saved(tmp_path / name, SCHEDULERS[name]))
    network, scheduler = unet(), diffusers.DDIMScheduler(**SCHEDULERS[name], clip_sample=False)
    scheduler.set_timesteps(50)
    z = theirs = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for step in scheduler.timesteps:
        theirs = scheduler.step(network(theirs, step).sample, step, theirs).prev_sample
    levels = tuple(model.levels[::-1][int(step)] for step in scheduler.timesteps)
    sampler = build_sampler(EulerAncestral(steps=50, eta=0.0, grid=TrainedLevels()))
    start = (z.double() * (1 + levels[0] ** 2) ** 0.5).float()
    *_, last = sampler(model.network.scaled_score, start, levels, noise=torch.zeros)
    assert (last.x - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@torch.no_grad()
def test_a_network_of_classes_draws_them_and_is_not_guided(tmp_path: Path) -> None:
    model, network = imported(saved(tmp_path / "tiny", {}, num_class_embeds=3)), unet(num_class_embeds=3)
    z, classes = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([2, 0, 2])
    sigma = model.levels[::-1][500]
    expected = network(z, torch.tensor([500]), class_labels=classes).sample
    ours = model.network.scaled_score(z * (1 + sigma**2) ** 0.5, torch.full((3,), sigma), {"classes": classes})
    assert (ours + expected).abs().max() <= 1e-5 * expected.abs().max()
    assert model.inputs(0, torch.arange(4))["classes"].tolist() == [0, 1, 2, 0]
    refused = command("sample", "tiny", "--n", "2", "sampler.guidance=2", folder=tmp_path)
    assert refused.code == 2
    assert "trained with model.class_dropout=0" in refused.err.replace("\n", " ")
    with pytest.raises(NcsnxError, match=r"must be the class of each image, \(3,\) int64, each from 0 to 2, since"):
        model.denoise(z, 1.0)


def test_older_folders_give_the_same_model(folder: Path, tmp_path: Path) -> None:
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    flat, weights = tmp_path / "tiny", "diffusion_pytorch_model.safetensors"
    flat.mkdir()
    tensors = load_file(folder / "unet" / weights)
    for today, before in old.items():
        tensors = {name.replace(today, before): tensor for name, tensor in tensors.items()}
    assert any(".proj_attn." in name for name in tensors)
    save_file(tensors, flat / weights)
    for given in (folder / "unet" / "config.json", folder / "scheduler" / "scheduler_config.json"):
        (flat / given.name).write_bytes(given.read_bytes())
    first, second = (source_of(str(one)).read(str(one), None, SILENT) for one in (folder, flat))
    assert first.declared.model == second.declared.model
    theirs = dict(second.parts(lambda: None))["model"]
    for name, tensor in dict(first.parts(lambda: None))["model"].items():
        assert tensor.equal(theirs[name])


def test_the_record_says_what_the_files_say_and_nothing_of_a_training(folder: Path) -> None:
    model = imported(folder)
    run = Run(folder.parent / "runs" / "tiny")
    (step,) = run.steps()
    kept = {Path(name).name for name in files(run.checkpoints)}
    assert (step, kept) == (0, {"manifest.json", "model.safetensors", "state.json"})
    recorded = json.loads(run.config_path.read_text())
    assert "experiment" not in recorded
    source = recorded["pretrained"]["source"]
    assert (source["kind"], source["license"], source["step"]) == ("diffusers", "unknown", None)
    assert "clip_sample" in source["remark"]
    assert source["made_with"] == f"diffusers {diffusers.__version__}"
    shown = command("show", "runs/tiny", "--origins", folder=folder.parent).out
    assert "from the file" in shown
    assert "optimizer" not in shown
    with pytest.raises(NcsnxError, match="trained elsewhere, by diffusers, so that it has no experiment"):
        run.experiment()
    assert model.sampler.grid.sigma_max <= 200  # type: ignore[attr-defined]
    again = command("import", str(folder), folder=folder.parent)
    assert "already there" in again.err


def test_the_run_does_what_a_trained_one_does(folder: Path) -> None:
    imported(folder)
    few, pictures = ("--threads", "1"), folder.parent / "pics"
    pictures.mkdir()
    for shade in range(20):
        Image.new("L", (8, 8), 12 * shade).save(pictures / f"{shade}.png")
    scripted(PooledFeatures(features=5, side=2), folder.parent / "f.pt")
    for words in (
        ("sample", "tiny", "--n", "2", "sampler.steps=2"),
        ("likelihood", "tiny", "--n", "2"),
        ("fid", "tiny", "--n", "10", "--reference", "./pics", "--features", "torchscript:f.pt", "sampler.steps=2"),
        ("report", "tiny"),
        ("doctor", "tiny"),
        ("list",),
    ):
        result = command(*words, *(few if words[0] in ("sample", "fid") else ()), folder=folder.parent)
        told = "the data of 'tiny', which was trained elsewhere, is not known"
        assert (result.code == 0) == (words[0] != "likelihood"), result.err
        assert words[0] != "likelihood" or told in result.err


def test_it_is_not_rounded_to_bf16(folder: Path) -> None:
    """The network's input and output would be rounded too, and at small σ the noise would be lost."""
    imported(folder)
    with pytest.raises(NcsnxError, match="precision=bf16 rounds the input and the output of DiffusersNetwork"):
        ncsnx.load(folder.parent / "runs" / "tiny", precision="bf16")
    refused = command("sample", "tiny", "--n", "1", "--precision", "bf16", "--threads", "1", folder=folder.parent)
    assert "--precision fp32" in refused.err


def test_it_is_trained_further_at_its_own_noise_levels(folder: Path) -> None:
    model, here = imported(folder), folder.parent
    words = ("steps=2", "checkpoint_every=2", "batch_size=8", "snapshots=none", "--threads", "1")
    command("train", "digits", "--from", "tiny", "--run", "tuned", *words, folder=here).done()
    tuned = Run(here / "runs" / "tuned").experiment()
    assert (tuned.model, tuned.data.transform) == (model.checkpoint.declared.model, "rescaled")
    loaded = ncsnx.load(here / "runs" / "tuned")
    assert (loaded.levels, loaded.sampler) == (model.levels, model.sampler)
    command("train", "digits", "--from", "tiny", "--run", "typed", "sampler=cas", *words, folder=here).done()
    assert ncsnx.load(here / "runs" / "typed").sampler == ConsistentAnnealed()


def test_its_data_set_may_be_named_later(folder: Path) -> None:
    here = folder.parent
    for words, data in (((), None), (("digits",), "digits")):
        assert command("import", str(folder), *words, "--run", "later", folder=here).code == 0
        found = Run(here / "runs" / "later").declared().data
        assert (None if found is None else "digits") == data
    refused = command("import", str(folder), "digits", "model.width=9", "--run", "later", folder=here)
    assert "model.width=9: the files say what the model is" in refused.err


@pytest.mark.slow
def test_a_data_set_makes_it_comparable(folder: Path) -> None:
    here = folder.parent
    assert command("import", str(folder), "digits", "--run", "compared", folder=here).code == 0
    for words in (
        ("fid", "compared", "--n", "10", *QUICK, "sampler.steps=2"),
        ("likelihood", "compared", "--n", "2", "--probes", "1"),
        ("compare", "compared", "--n", "10", "--samplers", "heun", "--evaluations", "3", *QUICK),
        ("neighbors", "compared", "--n", "2", "sampler.steps=2"),
        ("restore", "compared", "--outpaint", "digit.png", "--n", "2", "sampler.steps=3"),
    ):
        Image.new("L", (6, 6), 90).save(here / "digit.png")
        result = command(*words, folder=here)
        assert result.code == 0, (words, result.err)


def test_its_license_goes_with_it_and_its_export_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("---\ntags: [x]\nlicense: cc-by-nc-4.0\n---\nA card.\n")
    here = folder.parent
    assert command("import", str(folder), "digits", "--run", "known", folder=here).code == 0
    (folder / "README.md").unlink()
    refused = command("export", "known", "--license", "mit", "--out", str(tmp_path / "out"), "--grid", "0", folder=here)
    assert refused.code == 2
    assert "the weights came with the license cc-by-nc-4.0" in refused.err
    assert command("export", "known", "--out", str(tmp_path / "out"), "--grid", "0", folder=here).code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'license: "cc-by-nc-4.0"' in card
    assert "published as" in card
    first, second = ncsnx.load(here / "runs" / "known"), ncsnx.load(tmp_path / "out")
    assert ncsnx.draw(first, n=2, sampler=first.sampler).equal(ncsnx.draw(second, n=2, sampler=first.sampler))
    words = ("steps=1", "batch_size=8", "snapshots=none", "--threads", "1")
    command("train", "digits", "--from", str(tmp_path / "out"), "--run", "again", *words, folder=here).done()
    assert ncsnx.load(here / "runs" / "again").checkpoint.license == "cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("text encoder", "is a 'StableDiffusionPipeline' with 'text_encoder, vae', and only unconditional models"),
        ('class_embed_type="timestep"', "embeds its classes by 'timestep', and only numbers of classes are read"),
        ("pickle", "has diffusion_pytorch_model.bin, pickles, which are not read"),
        ("scheduler", "has a scheduler of class 'ScoreSdeVeScheduler', and only those with betas are read"),
        ("nan", "holds NaN, infinity"),
        ("other weights", "the weights do not fit the network that it describes"),
        ("truncated", "is not a safetensors file that is read"),
        ("out_channels=3", "expected out_channels 1, found 3"),
        ("layers_per_block=1000000", "has the number 1000000, above 16,384"),
        ("layers_per_block=200", "has 200 layers in a block, more than 16"),
        (f"block_out_channels={[16] * 17}", "has 17 blocks, more than 16"),
        ('time_embedding_type="learned"', "embeds its steps by 'learned', and only positional embeddings are read"),
        ('time_embedding_type="fourier"', "embeds its steps by 'fourier', and only positional embeddings are read"),
        ('prediction_type="' + "x" * 10_000 + '"', "v_prediction or sample, found 'xxx"),
        (f"layers_per_block=1{'0' * 400}", "configuration has the number 1000"),
        ("sample_size=[8, 9]", "takes only a height and width that are each a multiple of 2; found 8×9"),
        ("many names", "has a list of tensors of 4,194,312 bytes; expected at most 4,194,304"),
        ("odd names", "'unet.\\x1b[2Jxxx"),
        ("trained_betas=[]", "the noise of its scheduler does not grow with the steps"),
        ("num_train_timesteps=0", "the noise of its scheduler does not grow with the steps"),
        ("block_out_channels=null", "diffusers builds no UNet2DModel of this configuration"),
        ("norm_num_groups=3", "diffusers builds no UNet2DModel of this configuration"),
        ("in_channels=true", "expected in_channels and sample_size, found True"),
        ("steps", "its scheduler has the number 300000000, above 100,000"),
    ],
)
def test_what_it_cannot_take_is_refused_and_leaves_no_run(change: str, told: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "tiny", {})
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if change == "text encoder":
        index = json.loads((folder / "model_index.json").read_text())
        index |= {"_class_name": "StableDiffusionPipeline", "vae": ["x", "y"], "text_encoder": ["x", "y"]}
        (folder / "model_index.json").write_text(json.dumps(index))
    elif change == "pickle":
        weights.rename(weights.with_suffix(".bin"))
    elif change == "scheduler":
        (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "ScoreSdeVeScheduler"}')
    elif change in ("nan", "other weights"):
        tensors = load_file(weights)
        tensors["conv_out.bias"] = torch.full((1,) if change == "nan" else (2,), float("nan"))
        save_file(tensors, weights)
    elif change == "steps":
        file = folder / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"num_train_timesteps": 300_000_000}))
    elif "=" in change:
        name, _, value = change.partition("=")
        is_noise = name in ("trained_betas", "num_train_timesteps", "prediction_type")
        file = folder / ("scheduler/scheduler_config.json" if is_noise else "unet/config.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: json.loads(value)}))
    elif change == "many names":
        weights.write_bytes((4_194_312).to_bytes(8, "little") + b" " * 4_194_312)
    elif change == "odd names":
        save_file(load_file(weights) | {"\x1b[2J" + "x" * 10_000: torch.zeros(1)}, weights)
    elif change == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    result = command("import", str(folder), folder=tmp_path)
    assert result.code in (1, 2)
    assert told in result.err
    assert len(result.err) < 1_000
    assert not (tmp_path / "runs").exists()
