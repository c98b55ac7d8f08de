"""Published files: valid, damaged, and malicious ones."""

import io
import os
import pickle
import re
import resource
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from ncsnx.errors import NcsnxError, UsageError
from ncsnx.exchange.published_files import published_files, read_published
from tests.published import GOLDEN, OPTIMIZER, STEP, golden_path, golden_states, saved, write

FORMATS = {"zip": False, "legacy": True}
every_format = pytest.mark.parametrize("legacy", FORMATS.values(), ids=FORMATS)


class Payload:
    """Calls a function when it is unpickled without restrictions."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def small_states() -> list[Any]:
    """The published structure, with a network of one tensor."""
    network = OrderedDict({"module.a": torch.ones(2), "module.b": torch.ones(2)})
    return [network, OPTIMIZER, 3, 5000, {"a": torch.ones(2), "b": torch.ones(2)}]


@pytest.mark.parametrize("name", GOLDEN)
@every_format
def test_a_published_file_is_read_in_both_formats(name: str, legacy: bool, tmp_path: Path) -> None:
    states = golden_states(name)
    found = read_published(write(tmp_path / "checkpoint_5000.pth", states, legacy=legacy))
    assert (found.epoch, found.step) == (3, STEP)
    assert list(found.network) == [key.removeprefix("module.") for key in states[0]]
    assert all(torch.equal(found.network[key.removeprefix("module.")], value) for key, value in states[0].items())
    assert (found.ema is None) == (len(states) == 4)
    if found.ema is not None:
        assert all(torch.equal(found.ema[key], value) for key, value in states[4].items())


def test_what_torch_1_5_wrote_is_read(tmp_path: Path) -> None:
    """Files of torch 1.5 have tensors on a GPU."""
    content = saved(golden_states("ncsnv2"), legacy=True)
    content = content.replace(b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n")
    content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    (tmp_path / "old.pth").write_bytes(content)
    found, new = read_published(tmp_path / "old.pth"), read_published(golden_path("ncsnv2"))
    assert all(torch.equal(found.network[name], value) for name, value in new.network.items())


def test_all_names_may_lack_the_prefix_or_none(tmp_path: Path) -> None:
    states = golden_states("ncsnv2")
    states[0] = {name.removeprefix("module."): value for name, value in states[0].items()}
    states[4] = {f"module.{name}": value for name, value in states[4].items()}
    found, whole = read_published(write(tmp_path / "a.pth", states)), read_published(golden_path("ncsnv2"))
    assert found.network.keys() == whole.network.keys()
    assert found.ema is not None
    assert whole.ema is not None
    assert found.ema.keys() == whole.ema.keys()
    states[0]["module.end_conv.bias"] = states[0].pop("end_conv.bias")
    with pytest.raises(NcsnxError, match=r"network: expected all names or none to begin with 'module\.'"):
        read_published(write(tmp_path / "a.pth", states))


# -------------------------------------------------------------------------------------------------- malicious files


def placed(states: list[Any], place: str, payload: Payload) -> Any:
    """The published structure with a payload in one place."""
    match place:
        case "the whole":
            return payload
        case "network, attribute":
            states[0] = OrderedDict(states[0])
            states[0]._metadata = payload  # where torch stores the versions of modules
        case "EMA, deep":
            states[4]["b"] = [[{"a": (1, [payload])}]]
        case "one item more":
            states.append(payload)
        case _:
            states[int(place)] = payload
    return states


@pytest.mark.parametrize("place", ["0", "3", "the whole", "network, attribute", "EMA, deep", "one item more"])
@every_format
def test_a_payload_is_refused_and_runs_nothing_whatever_the_environment(
    place: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "a.pth"
    payload = Payload(os.system, f"touch '{trace}'")
    write(path, placed(small_states(), place, payload), legacy=legacy)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(NcsnxError, match=r"asks for 'posix\.system'.*nothing in it was executed") as refused:
        read_published(path)
    assert "\n" not in str(refused.value)
    assert not trace.exists()


def bomb() -> list[Any]:
    """A few hundred bytes that expand to 10 ** 40 items."""
    nested: list[Any] = []
    for _ in range(40):
        nested = [nested] * 10
    return nested


@pytest.mark.parametrize("position", [0, 3])
def test_lists_that_multiply_are_refused_at_once(position: int, tmp_path: Path) -> None:
    states = small_states()
    states[position] = bomb()
    started = time.monotonic()
    with pytest.raises(NcsnxError, match="expected") as refused:
        read_published(write(tmp_path / "a.pth", states))
    assert len(str(refused.value)) < 400
    assert time.monotonic() - started < 5


DECLARATIONS = {"storage": rb"(cpuq.)K\n(tq|Ntq)", "tensor": rb"(QK\x00)K\n(\x85)"}
"""Places where the pickle declares the number of values: 10."""


@pytest.mark.parametrize("what", DECLARATIONS)
@every_format
def test_a_declared_size_takes_no_memory(legacy: bool, what: str, tmp_path: Path) -> None:
    """A file that declares 2 ** 36 values but holds 10."""
    states = small_states()
    states[0] = {"module.a": torch.arange(10.0)}
    pattern, number = re.compile(DECLARATIONS[what], re.DOTALL), b"\x8a\x05\x00\x00\x00\x00\x10"
    huge = repickled(
        saved(states, legacy=legacy), lambda text: pattern.sub(lambda m: m[1] + number + m[2], text, count=1)
    )
    (tmp_path / "a.pth").write_bytes(huge)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NcsnxError, match=r"declares more numbers than it has bytes|'a tensor beyond its storage'"):
        read_published(tmp_path / "a.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def repickled(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The file with another pickle; in a zip, with matching checksums."""
    if not content.startswith(b"PK"):
        changed = change(content)
        assert changed != content
        return changed
    old, new = io.BytesIO(content), io.BytesIO()
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            changed = change(data) if entry.filename.endswith("data.pkl") else data
            assert changed != data or not entry.filename.endswith("data.pkl")
            target.writestr(entry.filename, changed)
    return new.getvalue()


def call_of(name: bytes, *arguments: bytes) -> bytes:
    """Instructions that call a function by its name."""
    return b"c" + name + b"\n(" + b"".join(arguments) + b"tR"


def small_pickles_of_gigabytes() -> dict[str, bytes]:
    """Pickles that ask for more memory, or time, than their size."""
    pairs = b"](" + b"".join(b"X\x04\0\0\0%04dN\x86" % number for number in range(5000)) + b"eq\x01"
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuM\xe8\x03tQq\x02"
    tensor = call_of(b"torch._utils\n_rebuild_tensor_v2", b"h\x02K\0M\xe8\x03\x85K\1\x85\x89}")
    wide = call_of(b"torch._utils\n_rebuild_tensor_v2", b"h\x02K\0J\0\0\0\x40\x85K\0\x85\x89}")
    colliding = b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(30_000))
    return {
        "copies of a list": pairs + b"](" + call_of(b"collections\nOrderedDict", b"h\x01") * 5000 + b"e.",
        "many tensors of a storage": storage + b"](" + tensor * 5000 + b"e.",
        "a wide tensor": storage + wide + b".",
        "colliding numbers": b"}(" + colliding + b"u.",
        "an array of bytes": call_of(b"builtins\nbytearray", b"J\0\0\0\x70") + b".",
    }


@pytest.mark.parametrize("what", small_pickles_of_gigabytes())
def test_a_small_pickle_takes_no_gigabytes(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + small_pickles_of_gigabytes()[what])
        archive.writestr("a/data/0", bytes(4000))
        archive.writestr("a/version", b"3\n")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(NcsnxError, match=r"nothing in it was executed") as refused:
        read_published(path)
    assert re.search(r"it asks for|declares more numbers than it has bytes", str(refused.value))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # KiB
    assert time.monotonic() - started < 3


def test_a_zip_that_would_grow_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps([{}, {}, 0, 0], protocol=2))
        archive.writestr("a/data/0", bytes(10**8))
    assert path.stat().st_size < 10**6
    with pytest.raises(NcsnxError, match="is a compressed zip"):
        read_published(path)


# ------------------------------------------------------------------------------------------------ other kinds of files


@every_format
def test_every_truncation_is_detected(legacy: bool, tmp_path: Path) -> None:
    content = saved(golden_states("ncsn"), legacy=legacy)
    path = tmp_path / "a.pth"
    for part in (0, 3, 64, 1000, *(len(content) * k // 4 for k in range(1, 4)), len(content) - 1):
        path.write_bytes(content[:part])
        with pytest.raises(NcsnxError, match="damaged") as refused:
            read_published(path)
        assert len(str(refused.value)) < 500


def test_a_bit_that_flipped_in_a_tensor_is_detected(tmp_path: Path) -> None:
    content = bytearray(golden_path("ncsnv2").read_bytes())
    for place in range(100_000, len(content) - 20_000, 100_000):
        content[place] ^= 1
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(NcsnxError, match="damaged"):
            read_published(tmp_path / "a.pth")
        content[place] ^= 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for name in ("a/data.pkl", "a/constants.pkl", "a/code/__torch__.py", "a/version"):  # of torch.jit
            written.writestr(name, b"")
    for content in (save({"a": torch.zeros(3)}), b"", b"text\n" * 100, bytes(1000), archive.getvalue()):
        path.write_bytes(content)
        with pytest.raises(NcsnxError, match=r"damaged or not a published checkpoint"):
            read_published(path)


def test_a_file_beyond_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncsnx.exchange.torch_files.MOST_BYTES", 100)
    with pytest.raises(NcsnxError, match="has 720 KiB, and at most"):
        read_published(golden_path("ncsn"))


def test_what_isn_t_a_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "device.pth").symlink_to("/dev/zero")
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    for name in ("pipe.pth", "device.pth", "loop.pth", ".", "absent.pth"):
        with pytest.raises(NcsnxError, match="cannot read"):
            read_published(tmp_path / name)


def with_item(position: int, value: Any) -> Any:
    states = small_states()
    states[position] = value
    return states


def with_tensor(value: Any) -> Any:
    return with_item(0, small_states()[0] | {"module.b": value})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": torch.zeros(1)}, "holds a dict of 1; expected a checkpoint of the published code"),
        (small_states()[:2], "holds a list of 2"),  # the format of the first code, of 2019
        (with_item(0, {}), "network: expected tensors by name, found a dict of 0"),
        (with_item(2, None), "epoch: expected a whole number"),
        (with_item(3, float("nan")), "step: expected a whole number from 0 to 1,000,000,000, found"),
        (with_item(3, torch.zeros(2)), r"found a tensor of shape \(2,\)"),
        (with_tensor(3.0), "'module.b': expected a tensor, found"),
        (with_tensor(torch.eye(3).to_sparse()), "asks for 'torch._utils._rebuild_sparse_tensor'"),
        (with_tensor(torch.zeros(3) * 1j), "asks for 'torch.ComplexFloatStorage'"),
        (with_tensor(torch.zeros(3, device="meta")), "asks for 'torch._utils._rebuild_meta_tensor_no_storage'"),
    ],
)
def test_any_other_structure_gets_one_line(content: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match=told) as refused:
        read_published(write(tmp_path / "a.pth", content))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_step_may_be_a_whole_tensor(tmp_path: Path) -> None:
    assert read_published(write(tmp_path / "a.pth", with_item(3, torch.tensor(7)))).step == 7


# ------------------------------------------------------------------------------------------------------------ folders


def test_the_files_of_a_folder_come_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for name in ("checkpoint_100000.pth", "checkpoint_5000.pth", "checkpoint_x.pth", "checkpoint.pth", "other.pth"):
        (tmp_path / name).touch()
    names = [path.name for path in published_files(tmp_path)]
    assert names == ["checkpoint_5000.pth", "checkpoint_100000.pth", "checkpoint_x.pth"]
    assert published_files(tmp_path / "other.pth") == [tmp_path / "other.pth"]


def test_a_place_without_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no checkpoint_\*\.pth"):
        published_files(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        published_files(tmp_path / "absent")
