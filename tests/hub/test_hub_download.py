"""Models on the Hub are downloaded whole, checked, by commit, once; anything else is refused in one line."""

import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from safetensors.torch import load_file, save_file

from ncsnx.errors import NcsnxError, UsageError
from ncsnx.exports.exported import Export
from ncsnx.exports.hub import HubAddress, fetch_model, hub_address
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.selection import open_model_folder
from tests.exchange.test_diffusers_folder import saved
from tests.hub.local_hub import TOKEN, LocalHub, Repository
from tests.runs.test_exports import WEIGHTS, config_of, export_to, forged
from tests.training.tiny import command

ADDRESS = HubAddress("ada", "digits")
CARD, PICTURE = b"# card\n", b"picture"


def exported(**changes: Any) -> dict[str, bytes]:
    """The files of an exported model, other ones where `changes` says so."""
    files = {"config.json": config_of().to_bytes(), "model.safetensors": WEIGHTS, "README.md": CARD}
    return {**files, "samples.png": PICTURE, **changes}


def published(hub: LocalHub, **changes: Any) -> Repository:
    return hub.repository("ada/digits", exported(**changes))


def complaint(address: HubAddress = ADDRESS, kind: type[NcsnxError] = UsageError) -> str:
    """The error for an address, which is one line and exits with 2 if it is a UsageError."""
    with pytest.raises(kind) as caught:
        fetch_model(address)
    assert type(caught.value).exit_code == (2 if kind is UsageError else 1)
    assert caught.value.message.isprintable()
    return str(caught.value)


def folder_of(cache: Path, repository: Repository) -> Path:
    """The cached model of the repository's newest commit."""
    return cache / "hub" / "models--ada--digits" / "snapshots" / repository.head


def cached(cache: Path) -> list[str]:
    """Names of the files of all cached models."""
    return sorted(path.name for path in cache.rglob("*") if path.parent.parent.name == "snapshots")


def test_an_address_is_a_repository_and_a_revision() -> None:
    assert hub_address("hf://ada/digits") == ADDRESS
    address = hub_address("hf://a-b_c/d.e@refs/pr/1")
    assert address is not None
    assert (address.repository, address.revision, str(address)) == (
        "a-b_c/d.e",
        "refs/pr/1",
        "hf://a-b_c/d.e@refs/pr/1",
    )
    assert hub_address("./hf://ada/digits") is None


@pytest.mark.parametrize(
    "text",
    [
        *("hf://ada", "hf:/ada/digits", "hf://ada/digits/folder", "hf://../etc", "hf://ada/.digits", "hf://ada/a--b"),
        *("hf://ada/x.git", "hf://ada/digits@../x", "hf://ada/digits@-x", "hf://ada/\x1b[2J", "hf://ada/dígits"),
        *("hf://" + "a" * 97 + "/digits", "hf://ada/digits@" + "a" * 300),
    ],
)
def test_any_other_address_is_one_line_with_the_form_of_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected hf://USER/MODEL or hf://USER/MODEL@REVISION") as caught:
        hub_address(text)
    assert caught.value.message.isprintable()


def test_only_the_files_of_the_model_are_taken_into_a_folder_of_the_commit(hub: LocalHub, cache_here: Path) -> None:
    repository = published(hub, **{"pytorch_model.bin": b"pickle", "sub/evil.py": b"", "../../escape": b""})
    model = fetch_model(ADDRESS)
    folder = folder_of(cache_here, repository)
    assert model == Export(folder, hub=f"hf://ada/digits@{repository.head}")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == exported()
    assert (model.name, model.where) == ("digits", f"hf://ada/digits@{repository.head}")
    assert model.model_content(model.config()) == WEIGHTS


def test_a_commit_in_the_cache_is_used_without_the_hub_and_a_branch_is_looked_up(hub: LocalHub) -> None:
    repository = published(hub)
    first = fetch_model(ADDRESS)
    repository.tags["v1"] = repository.head
    repository.add(exported(**{"README.md": b"# new\n"}))
    assert fetch_model(ADDRESS.at("v1")) == first
    hub.requests.clear()
    assert fetch_model(ADDRESS.at(repository.tags["v1"])) == first
    assert hub.requests == []
    assert fetch_model(ADDRESS) != first


@pytest.mark.parametrize("changes", [{"sha": "../../../etc"}, {"sha": None}, {"siblings": 7}, {"siblings": [7]}])
def test_an_answer_that_is_not_the_hubs_is_one_line(changes: dict[str, Any], hub: LocalHub, cache_here: Path) -> None:
    published(hub)
    hub.change = lambda info: {**info, **changes}
    assert "does not give ada/digits: " in complaint()
    assert cached(cache_here) == []


def test_what_is_not_an_exported_model_is_named_before_weights_are_downloaded(hub: LocalHub) -> None:
    hub.repository("ada/digits", {"pytorch_model.bin": b"x", "\x1b[2J\n": b"", "a" * 200: b"", "b": b"", "c": b""})
    assert (
        "is not a model that ncsnx exported: it has no model.safetensors with its config.json; found '" in complaint()
    )
    for config in (b'{"architectures": []}', b"not JSON", b" " * (1 << 20) + b"{}"):
        published(hub, **{"config.json": config})
        assert "is not a model that ncsnx exported" in complaint()
    assert not hub.has_sent_weights()


def test_a_model_unlike_its_configuration_is_refused_before_its_weights_come(hub: LocalHub, cache_here: Path) -> None:
    published(hub, **{"config.json": forged(model_bytes=10**15)})
    assert "model.safetensors of hf://ada/digits@" in complaint(kind=NcsnxError)
    hub.change = lambda info: {
        **info,
        "siblings": [{**one, **({"size": 10**15} if "lfs" in one else {})} for one in info["siblings"]],
    }
    assert "bytes; the weights of the experiment's network have" in complaint(kind=NcsnxError)
    published(hub, **{"config.json": forged(model_bytes=10**15, extra=1)})
    assert "config.json of hf://ada/digits@" in complaint(kind=NcsnxError)
    assert not hub.has_sent_weights()


def test_an_interrupted_download_is_never_taken_for_whole(hub: LocalHub, cache_here: Path) -> None:
    repository = published(hub)
    hub.refusals["/cdn/"] = 403
    complaint()
    address = ADDRESS.at(repository.head)
    assert "model.safetensors" not in cached(cache_here)
    assert fetch_model(address).path == folder_of(cache_here, repository)
    assert len(cached(cache_here)) == 4


def test_the_token_goes_to_the_hub_alone(hub: LocalHub, cache_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(hub).private = True
    assert "log in: hf auth login; or give a token: export HF_TOKEN=TOKEN" in complaint()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_secret")
    assert "secret" not in complaint()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.requests.clear()
    fetch_model(ADDRESS)
    sent = {path: given for _, path, given in hub.requests}
    assert {given for path, given in sent.items() if path.startswith("/")} == {f"Bearer {TOKEN}"}
    assert {given for path, given in sent.items() if path.startswith("localhost:")} == {None}
    assert not any(TOKEN.encode() in path.read_bytes() for path in cache_here.rglob("*") if path.is_file())


def test_a_damaged_copy_says_how_to_get_another(hub: LocalHub) -> None:
    published(hub)
    model = fetch_model(ADDRESS)
    (model.path / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(NcsnxError, match=r"is damaged.*the next use downloads it again: rm -r ") as caught:
        model.model_content(model.config())
    subprocess.run(str(caught.value.hints[0].command), shell=True, check=True)
    again = fetch_model(ADDRESS)
    assert again.model_content(again.config()) == WEIGHTS


def test_an_address_is_a_source_of_images_and_no_run(hub: LocalHub, tmp_path: Path) -> None:
    repository = published(hub)
    assert open_model_folder(tmp_path, "hf://ada/digits") == Export(
        folder_of(tmp_path / "cache", repository), hub=f"hf://ada/digits@{repository.head}"
    )
    with pytest.raises(UsageError, match="expected hf://USER/MODEL"):
        open_model_folder(tmp_path, Path("hf://ada/digits"))  # pathlib makes one slash of two
    with pytest.raises(UsageError, match=r"hf://ada/digits is an exported model, not a run.*ncsnx sample hf://ada"):
        open_run(tmp_path, "hf://ada/digits")
    assert attrs.evolve(export_to(tmp_path / "own")).name == "own"


def test_a_model_of_diffusers_is_imported_by_its_files(hub: LocalHub, cache_here: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    folder = saved(tmp_path / "tiny", {})
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    card = b"---\nlicense: apache-2.0\n---\n"
    others = {"README.md": card, "unet/diffusion_pytorch_model.bin": b"pickle", "samples/1.png": b"picture"}
    repository = hub.repository("ada/tiny", files | others)
    result = command("import", "hf://ada/tiny", folder=tmp_path).done()
    assert "license: apache-2.0" in result.err
    source = Run(tmp_path / "runs" / "tiny").declared().source  # type: ignore[union-attr]
    assert source.address == f"hf://ada/tiny@{repository.head}"
    kept = {path.name for path in cache_here.rglob("*") if path.is_symlink() or path.suffix in (".json", ".bin")}
    assert not {"diffusion_pytorch_model.bin", "1.png"} & kept
    changed = dict(load_file(folder / "unet/diffusion_pytorch_model.safetensors"))
    changed["conv_out.bias"] += 1
    save_file(changed, folder / "unet/diffusion_pytorch_model.safetensors")
    files["unet/diffusion_pytorch_model.safetensors"] = (
        folder / "unet/diffusion_pytorch_model.safetensors"
    ).read_bytes()
    hub.repository("ada/tiny", files | others)
    again = command("import", "hf://ada/tiny", folder=tmp_path)
    assert again.code == 1
    assert "runs/tiny is of another model than hf://ada/tiny@" in again.err
