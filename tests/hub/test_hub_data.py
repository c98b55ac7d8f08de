"""Data sets on the Hub are downloaded by commit, once, without their code."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ncsnx.config.data_sets import Hub
from ncsnx.data import Splits
from ncsnx.data.readers.hub import open_hub
from ncsnx.errors import NcsnxError
from ncsnx.work import SILENT
from tests.data.miniature import encoded, write_hub
from tests.hub.local_hub import LocalHub, Repository


def pets(hub: LocalHub, tmp_path: Path) -> Repository:
    """The repository ada/pets, of three commits: the second changes the pictures, the third does not."""
    repository = Repository()
    for number, seed in enumerate((0, 100, 100)):
        root = tmp_path / f"pets{number}"
        write_hub(root, "parquet", train=[encoded("RGB", (6, 5), "PNG", seed + n) for n in range(6)])
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")}
        repository.add({"README.md": b"---\nlicense: mit\n---\n", "evil.py": b"raise SystemExit(1)", **files})
    hub.repositories["ada/pets"] = repository
    return repository


def opened(**fields: Any) -> Splits:
    return open_hub(Hub(repository="ada/pets", image_size=4, held_out=0, **fields), Path("nowhere"), SILENT)


def test_a_revision_is_downloaded_once_and_without_code(hub: LocalHub, cache_here: Path, tmp_path: Path) -> None:
    repository = pets(hub, tmp_path)
    first, second, newest = repository.commits
    splits = opened()
    assert len(splits.train) == 6
    assert splits.class_names == ("cat", "dog")
    folder = cache_here / "hub" / "datasets--ada--pets" / "snapshots" / newest
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert names == {"README.md", "train-00000-of-00001.parquet"}
    assert opened(revision=newest).fingerprint == splits.fingerprint
    earlier = opened(revision=first)
    assert len({splits.fingerprint, earlier.fingerprint, opened(revision=second).fingerprint}) == 3
    one = torch.tensor([0])
    assert not torch.equal(earlier.train.read(one).pixels, splits.train.read(one).pixels)
    hub.requests.clear()
    assert opened(revision=first).fingerprint == earlier.fingerprint
    assert hub.requests == [], "a commit that is here needs no connection"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"repository": "ada/cats"}, "ada/cats on the Hugging Face Hub: cannot be read: .*Repository Not Found"),
        ({"repository": "ada/pets", "revision": "none"}, "ada/pets on the Hugging .*: .*Revision Not Found"),
    ],
)
def test_a_missing_repository_is_one_line(hub: LocalHub, tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    pets(hub, tmp_path)
    with pytest.raises(NcsnxError, match=told) as caught:
        open_hub(Hub(image_size=4, **fields), tmp_path, SILENT)
    assert caught.value.message.isprintable()


def test_a_hub_that_cannot_be_reached_is_one_line(cache_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NcsnxError, match="ada/pets on the Hugging Face Hub: cannot be read: ") as caught:
        opened()
    assert caught.value.message.isprintable()
