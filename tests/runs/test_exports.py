"""Exported models are written atomically, and changes to them are detected."""

import json
import os
from pathlib import Path

import attrs
import pytest

from ncsnx.config import Arrays, CelebA, Experiment, Images, NCSNv2
from ncsnx.config.codec import digest, identity
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.exports.exported import (
    MOST_CONFIG_BYTES,
    Export,
    ExportConfig,
    check_target,
    export_config,
    is_export,
    write_export,
)
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.selection import open_model_folder
from ncsnx.storage import atomic
from tests.config.examples import minimal
from tests.runs.kept import weights
from tests.spaces import space_of

SMALL = attrs.evolve(minimal(), model=NCSNv2(width=1))
WEIGHTS = weights(SMALL, bytes(range(256)) * 8)
HASH = "0123456789abcdef" * 4


def config_of(experiment: Experiment | None = None, weights: bytes = WEIGHTS, run: str = "digits") -> ExportConfig:
    return export_config(
        experiment or SMALL,
        space_of(SMALL.data),
        run=run,
        step=12,
        weights="ema",
        checkpoint_sha256=HASH,
        model=weights,
        data_fingerprint="f" * 64,
    )


def export_to(path: Path, experiment: Experiment | None = None) -> Export:
    return write_export(path, config_of(experiment), WEIGHTS, "# card\n", b"picture")


def forged(**changes: object) -> bytes:
    """A configuration with these changes and a valid digest."""
    content = {**json.loads(config_of().to_bytes()), **changes}
    del content["digest"]
    return atomic.json_bytes({**content, "digest": digest(content)})


def complaint(content: bytes) -> str:
    with pytest.raises(NcsnxError) as caught:
        ExportConfig.from_bytes(content, Path("config.json"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_truncation_and_a_flipped_bit_in_any_byte_of_the_configuration_is_found() -> None:
    written = config_of().to_bytes()
    for garbage in (b"[" * 100_000, b"\xff\xfe", b'{"digest": 1e999}'):
        assert "is damaged" in complaint(garbage)
    for place in range(len(written)):
        assert "is damaged" in complaint(written[:place])
        flipped = bytearray(written)
        flipped[place] ^= 1 << place % 8
        assert "is damaged" in complaint(bytes(flipped))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"owner": "me"}, "owner: no such field; it has"),
        ({"format": "other"}, "format: expected ncsnx-export, found text 'other'"),
        ({"format_version": 2}, "format_version: is 2, newer than this ncsnx reads (1); update ncsnx"),
        ({"format_version": True}, "format_version: expected 1, found True"),
        ({"run": "../run"}, "run: must be 1 to 100 of the characters"),
        ({"step": -1}, "step: must be a whole number >= 0, not -1"),
        ({"weights": "EMA"}, "weights: expected one of ema, raw, published, found text 'EMA'"),
        ({"model_sha256": "abc"}, "model_sha256: must be a sha256 in hexadecimal, not 'abc'"),
        ({"checkpoint_sha256": "\x1b"}, "checkpoint_sha256: must be a sha256 in hexadecimal"),
        ({"data_fingerprint": "a\nb"}, "data_fingerprint: must be 1 to 200 printable ASCII characters"),
        ({"ncsnx_version": "\x1b[2J"}, "ncsnx_version: must be 1 to 200 printable ASCII characters, not '\\x1b[2J'"),
        ({"experiment": {}}, "config.json: experiment.name: is required by Experiment, but missing"),
    ],
)
def test_what_no_ncsnx_wrote_is_refused_with_what_was_expected(changes: dict[str, object], expected: str) -> None:
    assert expected in complaint(forged(**changes))


def test_the_folder_holds_its_four_files_and_nothing_hidden(tmp_path: Path) -> None:
    export = export_to(tmp_path / "deep" / "model")
    assert {path.name for path in export.path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
        "samples.png",
    }
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")] == []
    assert export.config() == config_of()
    assert export.model_content(export.config()) == WEIGHTS


def test_a_model_that_is_not_the_exported_one_is_refused(tmp_path: Path) -> None:
    export = export_to(tmp_path / "model")
    path, config = export.path / "model.safetensors", export.config()
    for place in range(0, len(WEIGHTS), len(WEIGHTS) // 20):
        path.write_bytes(WEIGHTS[:place])
        with pytest.raises(NcsnxError, match=rf"model\.safetensors has {place:,} bytes instead of {len(WEIGHTS):,}"):
            export.model_content(config)
        flipped = bytearray(WEIGHTS)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(NcsnxError, match=r"model\.safetensors is damaged: its sha256 is not the one in config"):
            export.model_content(config)
    path.unlink()
    with pytest.raises(NcsnxError, match=r"model\.safetensors is missing; get an unchanged copy"):
        export.model_content(config)
    os.mkfifo(path)  # which is not waited for
    with pytest.raises(NcsnxError, match=r"model\.safetensors cannot be read: is not a regular file"):
        export.model_content(config)
    (export.path / "config.json").unlink()
    os.mkfifo(export.path / "config.json")
    with pytest.raises(NcsnxError, match=r"config\.json cannot be read: is not a regular file"):
        export.config()


def test_a_configuration_is_read_up_to_a_bound(tmp_path: Path) -> None:
    export = export_to(tmp_path / "model")
    with (export.path / "config.json").open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file, which takes no disk space
    with pytest.raises(NcsnxError, match="is damaged"):
        export.config()


def test_a_configuration_beyond_that_bound_is_not_written(tmp_path: Path) -> None:
    config = config_of()
    spare = MOST_CONFIG_BYTES - len(config.to_bytes())
    for excess in (0, 1):
        whole = attrs.evolve(config, experiment=attrs.evolve(SMALL, note="n" * (spare + excess)))
        assert len(whole.to_bytes()) == MOST_CONFIG_BYTES + excess
        if excess:
            with pytest.raises(NcsnxError, match=r"more than the limit of .*; shorten the experiment's note"):
                write_export(tmp_path / "1", whole, WEIGHTS, "# card\n")
        else:
            assert write_export(tmp_path / "0", whole, WEIGHTS, "# card\n").config() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").write_bytes(b"precious")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "full", "link", "dangling"):
        with pytest.raises(NcsnxError, match=rf"{name} already exists, and nothing is overwritten"):
            export_to(tmp_path / name)
    for path in (Path(), Path(".."), tmp_path / "full" / "..", Path("/")):
        with pytest.raises(UsageError, match="give the new folder a name"):
            check_target(path)
    assert export_to(tmp_path / "empty").config() == config_of()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "full", "empty", "link", "dangling"}
    assert (tmp_path / "full" / ".hidden").read_bytes() == b"precious"


def test_places_of_the_data_are_not_passed_on_and_not_accepted(tmp_path: Path) -> None:
    for data, expected in (
        (Images(root="/home/somebody/photos", image_size=8), "photos"),
        (Images(root="~somebody", image_size=8), "somebody"),
        (Images(root="../..", image_size=8), "data"),
        (Arrays(path="data/scans.npy", image_size=8), "scans.npy"),
        (CelebA(root="/home/somebody/celeba"), None),
        (CelebA(), None),
    ):
        experiment = attrs.evolve(SMALL, data=data)
        export = export_to(tmp_path / f"model{len(list(tmp_path.iterdir()))}", experiment)
        passed_on = export.experiment()
        assert getattr(passed_on.data, "path" if isinstance(data, Arrays) else "root") == expected
        assert identity(passed_on) == identity(experiment)
        assert b"/home" not in (export.path / "config.json").read_bytes()
    for root in ("/etc", "..", "a/b", "~", ""):
        values = json.loads(config_of().to_bytes())["experiment"]
        values["data"] = {"type": "images", "root": root, "image_size": 8}
        assert "data.root: expected a plain name" in complaint(forged(experiment=values))


def test_a_run_of_a_strange_name_passes_its_experiments_name_on() -> None:
    assert config_of(run="digits-2").run == "digits-2"
    for name in ("a\nb", "<b>", "..", "a..b", "", "x" * 200, "\udcff"):
        assert config_of(run=name).run == "minimal"


def test_an_export_is_told_from_a_run(tmp_path: Path, run: Run) -> None:
    export = export_to(tmp_path / "runs" / "model")
    with pytest.raises(NcsnxError, match=r"is an exported model, not a run; draw .*: ncsnx sample .*/model"):
        open_run(tmp_path / "runs", "model")
    assert open_model_folder(tmp_path / "runs", "model") == export
    assert open_model_folder(tmp_path, export.path) == export
    (run.path / "model.safetensors").write_bytes(WEIGHTS)
    assert open_model_folder(tmp_path / "runs", "small") == run
    assert open_run(tmp_path / "runs", "small") == run
    (export.path / "config.json").unlink()
    assert is_export(export.path)
    with pytest.raises(NcsnxError, match=r"config\.json is missing"):
        export.config()
