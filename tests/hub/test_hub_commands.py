"""Commands that take a model from the Hub, and the one that publishes one: in this process, and in one of its own."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import ncsnx
from tests.cli.command import REPOSITORY
from tests.hub.local_hub import WRITER, LocalHub
from tests.training.tiny import CPU, Result, command, files

PUSH = ("export", "digits", "--push", "ada/digits", "--grid", "0", *CPU)


@pytest.fixture
def writer(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """The Hub, with ada's token."""
    monkeypatch.setenv("HF_TOKEN", WRITER)
    return hub


def error(result: Result) -> str:
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    return line


def test_a_published_model_gives_the_images_of_its_run(writer: LocalHub, workplace: Path) -> None:
    result = command(*PUSH, "--license", "mit", "--json", folder=workplace)
    assert result.code == 0, result.err
    repository = writer.repositories["ada/digits"]
    address = f"hf://ada/digits@{repository.head}"
    facts = json.loads(result.out)
    page = f"{writer.address}/ada/digits"
    assert facts["hub"] == {"address": address, "page": page, "private": False, "is_new": True}
    assert facts["folder"] is None
    assert f"publishing in a new public repository {page}, for everybody:\n" in result.err
    assert "  model.safetensors: the weights of step 12\n" in result.err
    assert "license: mit" in result.err
    assert result.err.rstrip().endswith(f"next: ncsnx sample {address} --n 16")
    assert [path.name for path in workplace.iterdir()] == ["runs"]
    assert 'ncsnx.load("hf://ada/digits")' in repository.files["README.md"].decode()

    drawn = command("sample", "hf://ada/digits", "--n", "2", "--seed", "3", *CPU, "--json", folder=workplace)
    assert drawn.code == 0, drawn.err
    assert f"downloading {address} (" in drawn.err
    assert f"2 images, from {address}, step 12 (ema)" in drawn.err
    protocol = json.loads(drawn.out)
    assert protocol["source"] == address
    assert protocol["folder"].startswith("samples/digits/step-00000012-n2-seed3-")
    model = ncsnx.load(address)
    assert repr(model).startswith(f"ScoreModel of {address}, step 12")
    original = ncsnx.load(workplace / "runs/digits")
    assert torch.equal(ncsnx.draw(model, n=2, seed=3), ncsnx.draw(original, n=2, seed=3))
    again = command("sample", address, "--n", "2", "--seed", "3", *CPU, folder=workplace)
    assert "already sampled" in again.err
    shown = command("show", "hf://ada/digits@main", folder=workplace)
    assert f"from      {address}" in shown.out
    assert "no value differs" in command("diff", address, "runs/digits", folder=workplace).out


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["sample", "hf://ada", *CPU], 2, "'hf://ada' is not the address of a model on the Hub"),
        (["train", "https://huggingface.co/ada/digits/tree/v1", *CPU], 2, "hf://ada/digits@v1 is an exported model,"),
        (["sample", "hf://ada/digits", *CPU], 2, "does not give or take ada/digits: "),
        (["train", "hf://ada/digits", *CPU], 2, "hf://ada/digits is an exported model, which holds nothing to resume"),
        (["fid", "hf://ada/digits", *CPU], 2, "hf://ada/digits is an exported model, not a run"),
        (["export", "hf://ada/digits", "--out", "x", *CPU], 2, "hf://ada/digits is an exported model, not a run"),
        (["export", "digits", *CPU], 2, "an export needs a place"),
        (["export", "digits", "--out", "x", "--yes", *CPU], 2, "--yes goes with --push, which is not given"),
        (["export", "digits", "--push", "digits", *CPU], 2, "--push 'digits': expected USER/MODEL, as in ada/digits"),
        (["export", "digits", "--push", "a/b", "--license", "My own"], 2, "--license 'My own': expected an identifier"),
        (["export", "digits", "--push", "ada/digits", *CPU], 2, "does not give or take ada/digits: "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    words: list[str], code: int, expected: str, hub: LocalHub, workplace: Path, cache_here: Path
) -> None:
    before = files(workplace)
    result = command(*words, folder=workplace)
    assert (result.code, result.out) == (code, "")
    assert expected in error(result)
    assert files(workplace) == before


def test_without_the_extra_its_name_is_said_before_anything_is_exported(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words in (PUSH, ("sample", "hf://ada/digits", *CPU)):
        result = command(*words, folder=workplace)
        assert result.code == 2
        assert "models on the Hugging Face Hub need the extra hub" in error(result)
        assert "install it:  pip install 'ncsnx[hub]'" in result.err
        assert "EMA weights" not in result.err


def test_an_exported_folder_is_published_as_it_is_and_an_upload_is_repeated(writer: LocalHub, workplace: Path) -> None:
    writer.refusals["/commit/"] = 403
    result = command(*PUSH, "--out", "model", folder=workplace)
    assert result.code == 1
    assert "upload it again:" in result.err
    again = re.findall(r"ncsnx (export \./model --push ada/digits)", result.err)[-1].split()
    card = workplace / "model/README.md"
    card.write_text(card.read_text().replace("# digits", "# Digits of ada"))
    for words in (["--grid", "4"], ["--ckpt", "8"], ["--license", "mit"], ["--out", "x"]):
        refused = command(*again, *words, folder=workplace)
        assert refused.code == 2
        assert f"is published as it is; leave {words[0]} out" in error(refused)
    result = command(*again, "--private", "--json", folder=workplace)
    assert "exists and is public, so --private would change nothing" in error(result)
    result = command(*again, "--json", folder=workplace)
    assert result.code == 0, result.err
    assert json.loads(result.out)["folder"] == "model"
    assert b"# Digits of ada" in writer.repositories["ada/digits"].files["README.md"]
    assert "already published: " in command(*again, folder=workplace).err


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("y", 0)])
def test_on_a_terminal_it_asks_first_and_enter_alone_means_no(
    answer: str, code: int, writer: LocalHub, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return f"{answer}\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    result = command(*PUSH, "--quiet", folder=workplace)
    assert result.code == code
    assert "publish? [y/N]" in result.err
    assert ("ada/digits" in writer.repositories) == (code == 0)
    if code:
        assert "error: nothing was exported or published" in result.err
        assert "publish?" not in command(*PUSH, "--yes", folder=workplace).err


@pytest.mark.slow
def test_no_path_of_this_machine_is_in_an_export(workplace: Path) -> None:
    pictures = workplace / "my private photographs"
    pictures.mkdir()
    for number in range(12):
        Image.new("L", (8, 8), 20 * number).save(pictures / f"{number}.png")
    scoring = ("--n", "10", "--range", "latest", "features.steps=2", "features.width=8", *CPU)
    result = command("fid", "digits", "--reference", str(pictures), *scoring, folder=workplace)
    assert result.code == 0, result.err
    assert command("export", "digits", "--out", "model", "--grid", "0", *CPU, folder=workplace).code == 0
    card = (workplace / "model/README.md").read_text()
    assert "reference: folder my private photographs (" in card
    for name, content in files(workplace / "model").items():
        assert str(workplace).encode() not in content, name


def test_the_endpoint_and_the_token_of_the_environment_are_used_in_a_process_on_a_terminal(
    hub: LocalHub, workplace: Path, cache_here: Path
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": WRITER,
        "HF_HUB_DISABLE_XET": "1",
        "NCSNX_CACHE": str(cache_here),
        "TERM": "dumb",
    }
    controller, terminal = pty.openpty()
    words = [sys.executable, "-m", "ncsnx", *PUSH, "--private"]
    with subprocess.Popen(
        words, cwd=workplace, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        seen = ""
        while "publish? [y/N]" not in seen:
            assert select.select([controller], [], [], 60)[0], seen
            seen += os.read(controller, 4096).decode()
        os.write(controller, b"y\n")
        while select.select([controller], [], [], 60)[0]:
            try:
                seen += os.read(controller, 4096).decode()
            except OSError:  # the terminal was closed
                break
        assert process.wait(60) == 0, seen
    os.close(controller)
    assert "publishing in a new private repository" in seen
    assert WRITER not in seen
    assert hub.repositories["ada/digits"].private
