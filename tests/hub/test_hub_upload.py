"""Exports are published in one commit, as they are; what the Hub refuses is one line, said before anything changes."""

from pathlib import Path

import attrs
import pytest

from ncsnx.errors import NcsnxError, UsageError
from ncsnx.exchange.hub_upload import find_destination, publish
from ncsnx.runs.exported import Export, write_export
from ncsnx.runs.hub import HubAddress, fetch_model
from ncsnx.work import Work
from tests.hub.local_hub import READER, WRITER, LocalHub
from tests.runs.test_exports import SMALL, WEIGHTS, config_of
from tests.training.tiny import files

ADDRESS = HubAddress("ada", "digits")


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """An export, and the token of somebody who may publish it."""
    monkeypatch.setenv("HF_TOKEN", WRITER)
    card = '# card\n\nmodel = ncsnx.load("path/to/this/folder")\n'
    made = write_export(tmp_path / "model", config_of(), WEIGHTS, card, b"picture")
    (made.path / "notes.txt").write_text("mine")
    return made


def push(export: Export, address: HubAddress = ADDRESS, *, private: bool = False, work: Work | None = None) -> object:
    return publish(export, find_destination(address, private=private), work or Work())


@pytest.mark.parametrize("private", [False, True])
def test_an_export_becomes_a_repository_by_one_commit_and_comes_back_as_it_was(
    hub: LocalHub, export: Export, private: bool
) -> None:
    destination = find_destination(ADDRESS, private=private)
    assert "ada/digits" not in hub.repositories
    published = publish(export, destination)
    repository = hub.repositories["ada/digits"]
    assert (repository.private, repository.messages) == (private, ["Export digits, step 12, with ncsnx"])
    assert set(repository.files) == {".gitattributes", *(set(files(export.path)) - {"notes.txt"})}
    assert repository.files["README.md"] == b'# card\n\nmodel = ncsnx.load("hf://ada/digits")\n'
    assert (published.page, published.is_new) == (f"{hub.address}/ada/digits", True)
    again = fetch_model(published.address)
    assert again.config() == export.config()
    assert again.model_content(again.config()) == WEIGHTS


def test_a_new_export_replaces_the_files_of_the_one_before(hub: LocalHub, export: Export, tmp_path: Path) -> None:
    push(export)
    before = find_destination(ADDRESS, private=False)
    assert before.replaces == ("README.md", "config.json", "model.safetensors", "samples.png")
    config = config_of(attrs.evolve(SMALL, note="second"))
    publish(write_export(tmp_path / "second", config, WEIGHTS, "# second\n"), before)
    repository = hub.repositories["ada/digits"]
    assert set(repository.files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert fetch_model(ADDRESS).config() == config
    assert len(hub.asked("PUT")) == 2  # not the weights, which are the same
    with pytest.raises(UsageError, match="The branch has changed"):
        publish(export, before)


def test_a_repository_that_appears_after_the_question_gets_nothing(hub: LocalHub, export: Export) -> None:
    destination = find_destination(ADDRESS, private=True)
    repository = hub.repository("ada/digits", {"model.safetensors": b"another's"})
    with pytest.raises(UsageError, match="409"):
        publish(export, destination)
    assert not repository.messages


def test_what_is_already_published_makes_no_commit(
    hub: LocalHub, export: Export, capfd: pytest.CaptureFixture[str]
) -> None:
    push(export)
    again = publish(export, find_destination(ADDRESS, private=False))
    assert not again.is_new
    assert len(hub.repositories["ada/digits"].messages) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("part", ["/api/repos/create", "/commit/"])
def test_an_interrupted_upload_can_be_repeated(part: str, hub: LocalHub, export: Export) -> None:
    hub.refusals[part] = 403
    with pytest.raises(UsageError, match="said no"):
        push(export)
    assert not hub.repositories.get("ada/digits", hub.repository("x/y")).messages
    push(export)
    assert fetch_model(ADDRESS).config() == export.config()
    assert len(hub.repositories["ada/digits"].messages) == 1


def test_a_token_that_may_not_write_is_refused_before_anything_changes(
    hub: LocalHub, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in (None, READER, "hf_wrong_secret"):
        monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UsageError) as caught:
            push(export)
        assert "secret" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    with pytest.raises(UsageError, match="You don't have the rights"):
        push(export, HubAddress("bob", "digits"))
    assert hub.repositories == {}


def test_files_of_another_program_and_a_public_repository_are_left_alone(hub: LocalHub, export: Export) -> None:
    hub.repository("ada/digits", {"config.json": b'{"architectures": []}', "model.safetensors": b"x"})
    with pytest.raises(UsageError, match=r"holds another program's config.json and model.safetensors"):
        push(export)
    hub.repository("ada/digits", {"model.safetensors": b"x"})
    with pytest.raises(UsageError, match=r"holds another program's model.safetensors"):
        push(export)
    hub.repository("ada/digits", {"README.md": b"# soon\n"})
    with pytest.raises(UsageError, match="exists and is public, so private would change nothing"):
        push(export, private=True)
    push(export)
    assert hub.repositories["ada/digits"].messages == ["Export digits, step 12, with ncsnx"]


def test_a_damaged_export_and_a_card_that_the_hub_refuses_are_not_published(hub: LocalHub, export: Export) -> None:
    (export.path / "README.md").write_text("---\nbad metadata\n---\n")
    with pytest.raises(UsageError, match="must be a known one"):
        push(export)
    (export.path / "README.md").unlink()
    (export.path / "README.md").mkdir()
    with pytest.raises(NcsnxError, match=r"README.md cannot be published"):
        push(export)
    (export.path / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(NcsnxError, match="is damaged"):
        push(export)
    assert not hub.repositories["ada/digits"].messages


def test_the_upload_says_how_much_goes_where(hub: LocalHub, export: Export) -> None:
    said: list[str] = []
    push(export, work=Work(info=said.append))
    size = sum(len(content) for name, content in files(export.path).items() if name != "notes.txt")
    assert said == [f"uploading 4 files ({size / 1024:.0f} KiB) to {hub.address}/ada/digits"]
