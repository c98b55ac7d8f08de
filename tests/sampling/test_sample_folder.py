import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ncsnx.errors import NcsnxError
from ncsnx.images import to_uint8
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.sample_folder import SampledImages, SampleFolder, samples_in
from tests.forked import REPOSITORY
from tests.runs.kept import tree
from tests.samplers.toy import SHAPE
from tests.sampling.toy_sampling import PROTOCOL, sample, sample_folder

COUNT = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples") / "whole"
    sample(folder, COUNT, COUNT)
    return folder


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples of a process that was killed in its fourth batch of three images."""
    folder = tmp_path_factory.mktemp("samples") / "killed"
    command = [sys.executable, "-m", "tests.sampling.toy_sampling", str(folder), "3", str(COUNT), "0.02"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline().startswith("added")
        process.kill()
    return folder


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A copy to work in."""
    return Path(shutil.copytree(killed_once, tmp_path / "killed"))


def still_folder(
    path: Path, count: int, protocol: Mapping[str, Any] = PROTOCOL, shape: tuple[int, int, int] = SHAPE
) -> SampleFolder:
    """A folder without frames."""
    return SampleFolder(path, facts=protocol, request=SampleRequest(n=count), shape=shape)


def assert_same(folder: Path, other: Path) -> None:
    """The same images and pictures, and no further files."""
    found, expected = (
        {name: content for name, content in tree(one).items() if not name.endswith((".safetensors", "protocol.json"))}
        for one in (folder, other)
    )
    assert found == expected
    assert torch.equal(samples_in(folder).read("samples"), samples_in(other).read("samples"))


def test_a_killed_sampling_resumes_at_another_batch_size_to_equal_images(killed: Path, whole: Path) -> None:
    assert [*samples_in(killed).files()] == [0, 3, 6]
    assert sample(killed, 2, COUNT) == [9, 10, 11]
    assert [*samples_in(killed).files()] == [0, 3, 6, 9, 11]
    assert_same(killed, whole)
    samples = samples_in(killed)
    assert torch.equal(samples.read("samples", 2, 5), samples.read("samples")[2:7])


def renumber(samples: Path, number: int) -> None:
    """Gives a file of samples and its frames the names of those from another image on."""
    for path in (samples, samples.parent / ".frames" / f"frames-{samples.stem[-5:]}.safetensors"):
        path.rename(path.with_name(path.name.replace(samples.stem[-5:], f"{number:05d}")))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: save_file({"samples": torch.zeros(3, 1, 2, 2)}, path),
        lambda path: renumber(path, 2),
        lambda path: renumber(path, 10),
        lambda path: (path.parent / ".frames" / "frames-00003.safetensors").unlink(),
    ],
    ids=["torn", "another shape", "overlapping", "more than all", "without frames"],
)
def test_a_file_that_isnt_of_these_samples_isnt_done(
    killed: Path, whole: Path, damage: Callable[[Path], object]
) -> None:
    damage(killed / "samples-00003.safetensors")
    assert sample(killed, 4, COUNT) == [3, 4, 5, 9, 10, 11]
    assert_same(killed, whole)


def test_another_protocol_is_refused_with_what_differs_and_what_to_type(tmp_path: Path) -> None:
    sample(tmp_path, 5, COUNT)
    before = tree(tmp_path)
    other = {"seed": 1, "sampler": {"type": "ald", "step_size": 1e-6}}
    folder = sample_folder(tmp_path, COUNT, other)
    with pytest.raises(NcsnxError) as caught:
        folder.open()
    message = str(caught.value)
    assert "seed is 0 there, 1 here" in message
    assert "sampler.step_size is 0.0002 there, 1e-06 here" in message
    assert "sampler.type" not in message
    assert "out=" in message
    assert "overwrite=True" in message
    with pytest.raises(NcsnxError, match="n is 12 there, 13 here"):
        sample_folder(tmp_path, 13).open()
    assert tree(tmp_path) == before


def test_overwriting_removes_our_files_and_no_others(tmp_path: Path) -> None:
    sample(tmp_path, 5, COUNT)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "images" / "favorite.png").write_bytes(b"mine")
    folder = still_folder(tmp_path, 2, {**PROTOCOL, "seed": 1})
    folder.open(overwrite=True)
    theirs = {"notes.txt", "images/favorite.png"}
    assert set(tree(tmp_path)) == {"protocol.json", *theirs}
    assert not folder.complete
    assert folder.missing() == [0, 1]
    folder.add([0, 1], torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)))
    folder.finish()
    images = {"images/00000.png", "images/00001.png", "grid.png", "samples-00000.safetensors"}
    assert set(tree(tmp_path)) == {"protocol.json", *images, *theirs}


def test_pictures_are_waited_for_once_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    for count in (2, 20):
        folder = still_folder(tmp_path / str(count), count)
        folder.open()
        folder.add(range(count), torch.rand(count, *SHAPE))
        syncs, record = list[int](), tmp_path / str(count) / "protocol.json"
        at_the_end = list[tuple[int, bool]]()

        def sync_all(made: Path = record, seen: list[tuple[int, bool]] = at_the_end) -> None:
            seen.append((len(list(made.parent.glob("images/*.png"))), json.loads(made.read_text())["complete"]))

        monkeypatch.setattr(os, "fsync", syncs.append)
        monkeypatch.setattr(os, "sync", sync_all)
        folder.finish()
        waits.append(len(syncs))
        assert at_the_end == [(count, False)]
    assert waits[0] == waits[1] > 0


def test_an_assembly_that_was_interrupted_is_done_again(killed: Path, whole: Path) -> None:
    (killed / "images").mkdir()
    (killed / "images" / "00000.png").write_bytes(b"of an earlier attempt")
    (killed / ".samples-00006.safetensors.tmp-17-0011aaff").write_bytes(b"")
    sample(killed, 5, COUNT)
    assert_same(killed, whole)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_bytes(b"mine")
    with pytest.raises(NcsnxError, match="out="):
        sample_folder(tmp_path, COUNT).open(overwrite=overwrite)
    assert tree(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"made": 3}, r"protocol\.json: made: expected an object, found integer 3; .* add overwrite=True"),
        ({"schema_version": 2}, r"protocol\.json: schema_version: is 2, newer than .*; update ncsnx$"),
    ],
)
def test_a_damaged_record_is_named_and_made_again(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    sample(tmp_path, 5, COUNT)
    path = tmp_path / "protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    before = tree(tmp_path)
    with pytest.raises(NcsnxError, match=said):
        sample_folder(tmp_path, COUNT).open()
    assert tree(tmp_path) == before
    sample_folder(tmp_path, COUNT).open(overwrite=True)
    assert list(tree(tmp_path)) == ["protocol.json"]
    assert len(sample(tmp_path, 5, COUNT)) == COUNT


def test_samples_that_changed_since_are_found_out(tmp_path: Path) -> None:
    sample(tmp_path, 5, COUNT)
    path = tmp_path / "samples-00005.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(NcsnxError, match="overwrite=True"):
        sample_folder(tmp_path, COUNT).open()
    path.unlink()
    with pytest.raises(NcsnxError, match="overwrite=True"):
        sample_folder(tmp_path, COUNT).open()


def test_an_unfinished_folder_cant_be_declared_complete(tmp_path: Path) -> None:
    folder = still_folder(tmp_path, 3)
    folder.open()
    folder.add([0], torch.zeros(1, *SHAPE))
    folder.add([2], torch.zeros(1, *SHAPE))
    assert folder.missing() == [1]
    with pytest.raises(NcsnxError, match="1 of 3"):
        folder.finish()
    assert json.loads((tmp_path / "protocol.json").read_text())["complete"] is False


def test_an_interpolation_is_laid_out_by_rows_and_columns(tmp_path: Path) -> None:
    request = SampleRequest(n=3, interpolate=4, frames=2)
    folder = SampleFolder(tmp_path, facts=PROTOCOL, request=request, shape=(3, 32, 32), frames=2)
    folder.open()
    images = torch.linspace(0, 1, 12).view(12, 1, 1, 1).expand(12, 3, 32, 32)
    frames = to_uint8(images).expand(2, 12, 3, 32, 32)
    folder.add([2], images[8:], frames[:, 8:])
    folder.add([0, 1], images[:8], frames[:, :8])
    folder.finish()
    assert torch.equal(samples_in(tmp_path).read("samples"), images)
    with Image.open(tmp_path / "grid.png") as read:
        assert read.size == (4 * 66 + 2, 3 * 66 + 2)
        middles = [
            read.convert("RGB").getpixel((34 + 66 * column, 34 + 66 * row)) for row in range(3) for column in range(4)
        ]
    assert middles == [tuple(image[:, 0, 0].tolist()) for image in to_uint8(images)]


def test_pictures_are_in_the_order_of_their_numbers_where_names_have_unequal_widths(tmp_path: Path) -> None:
    folder = still_folder(tmp_path, COUNT)
    (tmp_path / "images").mkdir()
    for number in (100_000, 9, 99_999, 10):
        (tmp_path / "images" / f"{number:05}.png").touch()
    assert [file.stem for file in SampledImages(output=folder).images] == ["00009", "00010", "99999", "100000"]


def test_samples_being_overwritten_are_not_called_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample(tmp_path, 5, COUNT)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    other = sample_folder(tmp_path, COUNT, {**PROTOCOL, "seed": 1})
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            other.open(overwrite=True)
    with pytest.raises(NcsnxError, match="overwrite=True"):
        sample_folder(tmp_path, COUNT).open()
