"""Models on the Hub are downloaded whole, checked, by commit, once; anything else is refused in one line."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from ncsnx.errors import NcsnxError, Stopped, UsageError
from ncsnx.hub.hub_address import HubAddress, is_hub_address, parse_hub_address, parse_repository
from ncsnx.hub.hub_download import fetch_model
from ncsnx.runs.exported import Export
from ncsnx.runs.folder import open_run
from ncsnx.runs.selection import open_source
from ncsnx.work import Work
from tests.hub.local_hub import READER, WRITER, LocalHub, Repository
from tests.runs.test_exports import WEIGHTS, config_of, export_to, signed

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


def cached(folder: Path) -> list[str]:
    """All files in the cache but locks."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    )


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("hf://ada/digits", "ada/digits", None),
        ("hf://ada/digits@v1.0", "ada/digits", "v1.0"),
        ("hf://a-b_c/d.e@refs/pr/1", "a-b_c/d.e", "refs/pr/1"),
    ],
)
def test_an_address_is_a_repository_and_a_revision(text: str, repository: str, revision: str | None) -> None:
    address = parse_hub_address(text)
    assert (address.repository, address.revision, str(address)) == (repository, revision, text)
    assert parse_repository(repository, "push").repository == repository


@pytest.mark.parametrize(
    "text",
    [
        *(
            "hf://",
            "hf://ada",
            "hf:ada/digits",
            "hf:/ada/digits",
            "hf://ada/digits/",
            "hf://ada/digits/folder",
            "hf://../etc",
        ),
        *("hf://ada/..", "hf://ada/.digits", "hf://ada/a--b", "hf://ada/a..b", "hf://ada/x.git", "hf://ada/digits@"),
        *("hf://ada/digits@../x", "hf://ada/digits@a//b", "hf://ada/digits@-x", "hf://ada/di gits", "hf://ada/\x1b[2J"),
        *("hf://ada/digits@a@b", "hf://" + "a" * 97 + "/digits", "hf://ada/digits@" + "a" * 300, "hf://ada/dígits"),
    ],
)
def test_any_other_address_is_one_line_with_the_form_of_one(text: str) -> None:
    assert is_hub_address(text)
    with pytest.raises(UsageError, match=r"expected hf://USER/MODEL or hf://USER/MODEL@REVISION") as caught:
        parse_hub_address(text)
    assert caught.value.message.isprintable()


def test_the_files_of_the_model_are_in_a_folder_of_the_commit_without_links(hub: LocalHub, cache_here: Path) -> None:
    repository = published(hub, **{"pytorch_model.bin": b"pickle", "sub/evil.py": b"", "../../escape": b""})
    model = fetch_model(ADDRESS)
    folder = cache_here / "hub" / "ada" / "digits" / repository.head
    assert model == Export(folder, hub=f"hf://ada/digits@{repository.head}")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == exported()
    assert not any(path.is_symlink() for path in cache_here.rglob("*"))
    assert len(cached(cache_here)) == 4
    assert (model.name, model.where) == ("digits", f"hf://ada/digits@{repository.head}")
    assert model.model_content(model.config()) == WEIGHTS


def test_a_commit_in_the_cache_is_used_without_the_hub_and_a_branch_is_looked_up(hub: LocalHub) -> None:
    repository = published(hub)
    first = fetch_model(ADDRESS)
    repository.tags["v1"] = repository.head
    repository.add(exported(**{"README.md": b"# new\n"}))
    assert fetch_model(ADDRESS.at("v1")) == first
    hub.requests.clear()
    assert fetch_model(parse_hub_address(str(first.hub))) == first
    assert hub.requests == []
    assert fetch_model(ADDRESS) != first


def test_without_a_connection_the_commit_in_the_cache_is_named(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    published(hub)
    first = fetch_model(ADDRESS)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    said = complaint()
    assert said.startswith("cannot reach 127.0.0.1:9: ")
    assert f"or name a commit that is in the cache: {first.hub}" in said
    assert "in the cache" not in complaint(HubAddress("ada", "other"))


def test_offline_mode_says_which_variable_turns_it_on(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    published(hub)
    first = fetch_model(ADDRESS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    try:
        said = complaint()
    finally:
        monkeypatch.undo()
    assert "since HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE; or name a commit" in said
    assert str(first.hub) in said


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sha": "../../../etc"}, "it names the commit '../../../etc'"),
        ({"sha": None}, "it names the commit None"),
        ({"siblings": [{"rfilename": "config.json", "size": -1, "blobId": "0"}]}, "config.json has no size"),
        ({"siblings": [{"rfilename": "config.json", "size": "9", "blobId": "0"}]}, "config.json has no size"),
        ({"siblings": [{"rfilename": "config.json", "size": 9}]}, "config.json has no size or no hash"),
        ({"siblings": 7}, "does not answer as the Hugging Face Hub does"),
        ({"siblings": [7]}, "does not answer as the Hugging Face Hub does"),
    ],
)
def test_an_answer_that_is_not_the_hubs_is_one_line(
    changes: dict[str, Any], expected: str, hub: LocalHub, cache_here: Path
) -> None:
    published(hub)
    hub.change = lambda info: {**info, **changes}
    assert expected in complaint()
    hub.change = lambda info: [info]
    assert "does not answer as the Hugging Face Hub does" in complaint()
    assert not cache_here.exists()


def test_what_is_not_an_exported_model_is_named_and_leaves_nothing(hub: LocalHub, cache_here: Path) -> None:
    files = {"pytorch_model.bin": b"x", "\x1b[2J\n": b"", "a" * 200: b"", "b": b"", "c": b""}
    hub.repository("ada/digits", files)
    hub.change = lambda info: {**info, "library_name": "transformers"}
    said = complaint()
    assert (
        "is not a model that ncsnx exported: it has no config.json; found '.gitattributes', 'pytorch_model.bin'" in said
    )
    assert "and 2 more; its card names the library 'transformers'" in said
    for config in (b'{"architectures": []}', b"not JSON", b"[]"):
        published(hub, **{"config.json": config})
        assert "its config.json is that of another program" in complaint()
    published(hub, **{"config.json": b" " * (1 << 20) + b"{}"})
    assert "its config.json has 1.0 MiB" in complaint()
    assert not cache_here.exists()


def test_a_model_that_its_configuration_does_not_describe_is_refused_before_its_weights_are_downloaded(
    hub: LocalHub, cache_here: Path
) -> None:
    huge = {**json.loads(config_of().to_bytes()), "model_bytes": 10**15}
    published(hub, **{"config.json": signed(huge)})
    assert "is not the one that its config.json describes" in complaint(kind=NcsnxError)
    hub.change = lambda info: {
        **info,
        "siblings": [{**one, **({"size": 10**15} if "lfs" in one else {})} for one in info["siblings"]],
    }
    assert "bytes; the weights of the experiment's network have" in complaint(kind=NcsnxError)
    published(hub, **{"config.json": signed({**huge, "extra": 1})})
    assert "config.json of hf://ada/digits@" in complaint(kind=NcsnxError)
    assert hub.ranges == []
    assert not cache_here.exists()


def test_every_file_is_held_to_the_hash_that_the_hub_gives(hub: LocalHub, cache_here: Path) -> None:
    published(hub)

    def other(info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "siblings": [{**one, **wrong.get(one["rfilename"], {})} for one in info["siblings"]]}

    hub.change = other
    wrong: dict[str, dict[str, Any]] = {"README.md": {"blobId": "0" * 40}}
    assert "the received file (7 bytes)" in (said := complaint(kind=NcsnxError))
    assert "Git hash" in said
    wrong = {"samples.png": {"lfs": {"sha256": "0" * 64, "size": 7, "pointerSize": 9}}}
    assert f"not the published {'0' * 64}" in complaint(kind=NcsnxError)
    wrong = {"config.json": {"blobId": "0" * 40}}
    assert "config.json" in complaint(kind=NcsnxError)
    assert not [file for file in cached(cache_here) if ".part/" not in file]
    wrong = {}
    assert fetch_model(ADDRESS).config() == config_of()


def test_a_stop_keeps_what_was_downloaded(hub: LocalHub, cache_here: Path) -> None:
    published(hub)

    def check_stop() -> None:
        if hub.ranges:
            raise Stopped("stopped by SIGTERM")

    with pytest.raises(Stopped):
        fetch_model(ADDRESS, Work(check_stop=check_stop))
    hub.ranges.clear()
    assert fetch_model(ADDRESS).config() == config_of()


def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: LocalHub, cache_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(hub).private = True
    assert "there is no model ada/digits on 127.0.0.1:" in (said := complaint())
    assert "log in: hf auth login; or give a token: export HF_TOKEN=TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_secret")
    assert "does not accept this token" in (said := complaint())
    assert "secret" not in said
    monkeypatch.setenv("HF_TOKEN", READER)
    hub.requests.clear()
    fetch_model(ADDRESS)
    sent = {path: given for _, path, given in hub.requests}
    assert {given for path, given in sent.items() if path.startswith("/")} == {f"Bearer {READER}"}
    assert {given for path, given in sent.items() if path.startswith("localhost:")} == {None}
    assert not any(READER.encode() in path.read_bytes() for path in cache_here.rglob("*") if path.is_file())
    assert "log in" not in complaint(HubAddress("bob", "digits"))


def test_a_gated_model_and_a_missing_revision_say_where_to_look(hub: LocalHub) -> None:
    hub.repository("bob/digits", exported(), gated=True)
    bob = HubAddress("bob", "digits")
    assert f"give access on request only, and this account has none; ask for it on: {hub.address}/bob" in complaint(bob)
    published(hub)
    assert "ada/digits has no branch, tag or commit 'v9'" in complaint(ADDRESS.at("v9"))
    hub.refusals["/api/models"] = 429
    assert "too many requests from here; repeat the command later" in complaint()
    hub.refusals["/api/models"] = 503
    assert "answers with status 503: said no" in complaint()


def test_a_damaged_copy_says_how_to_get_another(hub: LocalHub) -> None:
    published(hub)
    model = fetch_model(ADDRESS)
    (model.path / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(NcsnxError, match=r"is damaged.*the next use downloads it again: rm -r ") as caught:
        model.model_content(model.config())
    assert caught.value.hints[0].command == f"rm -r {model.path}"


def test_an_address_is_a_source_of_images_and_no_run(hub: LocalHub, tmp_path: Path) -> None:
    repository = published(hub)
    assert open_source(tmp_path, "hf://ada/digits") == Export(
        tmp_path / "cache/hub/ada/digits" / repository.head, hub=f"hf://ada/digits@{repository.head}"
    )
    with pytest.raises(UsageError, match="expected hf://USER/MODEL"):
        open_source(tmp_path, Path("hf://ada/digits"))  # pathlib makes one slash of two
    with pytest.raises(UsageError, match=r"hf://ada/digits is an exported model, not a run.*ncsnx sample hf://ada"):
        open_run(tmp_path, "hf://ada/digits")
    assert attrs.evolve(export_to(tmp_path / "own")).name == "own"
    assert WRITER not in repr(repository)
