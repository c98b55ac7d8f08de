"""Files of every form that would take time or memory, or fail anywhere: one sentence for each, soon."""

import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tests.exchange.test_published_files import call_of
from tests.forked import REPOSITORY
from tests.storage.giants import forged_zip, header, sparse_npy

pytest.importorskip("diffusers")

LIMIT_S = 10
SPARE_BYTES = 32 << 20
"""Memory that a reader may take beside a few times the size of its file."""
COPIES = 10
READ_EACH = """
import json, os, re, signal, sys, time
from pathlib import Path
from ncsnx.config.discovery import resolve
from ncsnx.errors import NcsnxError
from ncsnx.exchange.model_source import source_of
from ncsnx.inverse.measured_files import reconstruct
from ncsnx.space import Space
from ncsnx.work import SILENT
import h5py
from diffusers import DDPMScheduler, UNet2DModel
experiment, space = resolve("digits").experiment, Space.with_ends((1, 8, 8), (0.0, 1.0))
def kibibytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
def too_late(number, frame):
    raise TimeoutError("it takes too long")
def read(address):
    if address.startswith("measured/"):
        reconstruct(Path(address), space)
    else:
        source_of(address).read(address, experiment, SILENT)
signal.signal(signal.SIGALRM, too_late)
for address in json.load(sys.stdin):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begin, told = kibibytes("VmRSS"), time.monotonic(), "read"
    signal.alarm(int(sys.argv[1]))
    try:
        read(address)
    except NcsnxError as error:
        told = "refused: " + error.message
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    signal.alarm(0)
    print(json.dumps([told, time.monotonic() - begin, 1024 * (kibibytes("VmHWM") - before)]))
"""


def text(name: str) -> bytes:
    """The instruction of a text."""
    return b"X" + struct.pack("<I", len(name.encode())) + name.encode()


def zipped(pickled: bytes, *, compressed: bool = False, storage: bytes = bytes(4_000)) -> bytes:
    """A file of torch with this pickle."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, part in (("a/data.pkl", pickled), ("a/data/0", storage), ("a/version", b"3\n")):
            archive.writestr(name, part)
    return content.getvalue()


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"M\xe8\x03tQ"


def tensor_of(shape: bytes, strides: bytes, offset: bytes = b"K\0", storage: bytes = STORAGE) -> bytes:
    """Instructions of a tensor."""
    return call_of(b"torch._utils\n_rebuild_tensor_v2", storage + offset + shape + strides + b"\x89}")


def network_of(tensor: bytes) -> bytes:
    """A published checkpoint of one tensor."""
    return b"\x80\x02](}" + text("a") + tensor + b"s}K\0K\0e."


def checkpoints() -> Iterator[tuple[str, bytes]]:
    """Files of torch, by name."""
    names = b"".join(text(f"t{number}") + b"h\x05" for number in range(300_000))
    nested = b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b"."
    yield "empty", b""
    yield "text", b"# weights\n" * 40
    yield "a zip without members", b"PK\x05\x06" + bytes(18)
    yield "a zip of another form", zipped(b"")
    yield "truncated", zipped(network_of(tensor_of(b"K\1\x85", b"K\1\x85")))[:-60]
    yield (
        "300,000 names",
        zipped(b"\x80\x02](}(" + text("a") + tensor_of(b"K\1\x85", b"K\1\x85") + b"q\x05" + names + b"u}K\0K\0e."),
    )
    yield "stride 0", zipped(network_of(tensor_of(b"J\0\0\0\x40\x85", b"K\0\x85")))
    yield "negative shape", zipped(network_of(tensor_of(b"J\xff\xff\xff\xff\x85", b"K\1\x85")))
    yield "negative stride", zipped(network_of(tensor_of(b"K\2\x85", b"J\xff\xff\xff\xff\x85")))
    yield "offset beyond", zipped(network_of(tensor_of(b"K\1\x85", b"K\1\x85", b"\x8a\x08" + b"\xff" * 7 + b"\x3f")))
    yield "many dimensions", zipped(network_of(tensor_of(b"(" + b"K\1" * 20_000 + b"t", b"(" + b"K\1" * 20_000 + b"t")))
    yield "shape of infinity", zipped(network_of(tensor_of(b"G\x7f\xf0" + bytes(6) + b"\x85", b"K\1\x85")))
    yield (
        "a storage of NaN",
        zipped(network_of(tensor_of(b"K\1\x85", b"K\1\x85")), storage=np.full(1000, np.nan, "f4").tobytes()),
    )
    yield (
        "a step of infinity",
        zipped(network_of(tensor_of(b"K\1\x85", b"K\1\x85"))[:-4] + b"G\x7f\xf0" + bytes(6) + b"e."),
    )
    yield "a persistent name that is none", zipped(network_of(tensor_of(b"K\1\x85", b"K\1\x85", storage=b"K\1Q")))
    yield "a storage of another length", zipped(network_of(tensor_of(b"K\1\x85", b"K\1\x85")), storage=b"1234567")
    yield "deep lists", zipped(nested)
    yield "compressed zeros", zipped(network_of(b"N"), compressed=True, storage=bytes(10**8))
    yield "an enormous memo", zipped(b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b".")
    yield "an enormous text", zipped(b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"a.")
    yield (
        "keys that collide",
        zipped(
            b"\x80\x02}("
            + b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(20_000))
            + b"u."
        ),
    )


def old_storage(count: int) -> bytes:
    content = io.BytesIO()
    torch.save(torch.zeros(count).storage(), content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def edm_pickle(parameters: bytes, arguments: dict[str, Any]) -> bytes:
    """A network pickle of these instructions for its parameters."""
    given = pickle.dumps(arguments, protocol=2)[2:-1]
    state = b"}(" + text("_init_kwargs") + given + text("_parameters") + parameters + b"u"
    meta = b"}(" + text("class_name") + text("EDMPrecond") + text("state") + state + b"u"
    return b"\x80\x04}" + text("ema") + b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n" + meta + b"\x85Rs."


SMALL = {"model_type": "SongUNet", "img_resolution": 8, "img_channels": 1, "attn_resolutions": [8]}


def edm_pickles() -> Iterator[tuple[str, bytes]]:
    """Network pickles, by name."""
    loads = call_of(b"torch.storage\n_load_from_bytes", b"h\x01")
    load = b"B" + struct.pack("<I", len(old_storage(10**5))) + old_storage(10**5) + b"q\x01"
    yield "empty", b""
    yield "text", b"hello\n" * 100
    yield (
        "a storage loaded again and again",
        edm_pickle(b"}(" + text("a") + load + b"".join(text(f"{k}") + loads for k in range(5_000)) + b"u", SMALL),
    )
    yield "300,000 names", edm_pickle(b"}(" + b"".join(text(f"t{k}") + b"N" for k in range(300_000)) + b"u", SMALL)
    yield "one name again and again", edm_pickle(b"}(" + (text("a") + b"N") * 100_000 + b"u", SMALL)
    yield "a list that memo copies", edm_pickle(b"]q\x02(" + b"h\x02" * 90_000 + b"e", SMALL)
    yield (
        "a constructor with contents",
        edm_pickle(call_of(b"collections\nOrderedDict", b"](" + b"N" * 90_000 + b"e"), SMALL),
    )
    for name, changes in {
        "infinite size": {"img_resolution": float("inf")},
        "NaN channels": {"img_channels": float("nan")},
        "negative size": {"img_resolution": -8},
        "enormous size": {"img_resolution": 10**30},
        "no stages": {"channel_mult": []},
        "NaN sigma_data": {"sigma_data": float("nan")},
        "sigma_data of infinity": {"sigma_data": float("inf")},
        "tiny sigma_data": {"sigma_data": 1e-320},
        "enormous width": {"model_channels": 16_384, "channel_mult": [64] * 4, "num_blocks": 64},
        "many classes": {"label_dim": 10**9},
        "a network that is not there": {},
        "a text of 100,000 characters": {"model_type": "x" * 100_000},
        "dropout of NaN": {"dropout": float("nan")},
    }.items():
        yield name, edm_pickle(b"}", SMALL | changes)


def safetensors(tensors: dict[str, Any], content: bytes = b"") -> bytes:
    described = json.dumps(tensors).encode()
    return struct.pack("<Q", len(described)) + described + content


def weights() -> Iterator[tuple[str, bytes]]:
    """Files of safetensors, by name."""
    yield "empty", b""
    yield "a short file", b"\x01"
    yield "an enormous header", struct.pack("<Q", 2**63) + b"{}"
    yield "a header beyond the file", struct.pack("<Q", 10**6) + b"{}"
    yield "a header of lists", struct.pack("<Q", 10**6) + b"[" * 10**6
    for kind in ("F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3", "C64", "X"):
        yield f"type {kind}", safetensors({"a": {"dtype": kind, "shape": [8], "data_offsets": [0, 8]}}, bytes(8))
    for name, shape, offsets in (
        ("negative shape", [-2], [0, 8]),
        ("an enormous shape", [2**62, 2**62], [0, 8]),
        ("offsets the wrong way round", [2], [8, 0]),
        ("offsets beyond the file", [2**30], [0, 2**32]),
        ("offsets that overlap nothing", [2], [4, 12]),
        ("60,000 dimensions", [1] * 60_000, [0, 4]),
    ):
        yield name, safetensors({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}, bytes(8))


UNET = {
    **{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1, "norm_num_groups": 8},
    **{"block_out_channels": [16, 32], "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2},
}
BETAS = {"_class_name": "DDPMScheduler", "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
UNETS: dict[str, Any] = {
    "deep JSON": b"[" * 980 + b"]" * 980,
    "deep values": b'{"_class_name": "UNet2DModel", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a list": b"[]",
    "wide": {
        **{"block_out_channels": [16_384] * 16, "down_block_types": ["DownBlock2D"] * 16},
        **{"up_block_types": ["UpBlock2D"] * 16, "layers_per_block": 16, "sample_size": 2**14},
    },
    "deeper values": b'{"_class_name": "UNet2DModel", "x": ' + b"[" * 970 + b"]" * 970 + b"}",
    "a number of 400 digits": {"layers_per_block": 10**400},
    "a number of 5,000 digits": b'{"_class_name": "UNet2DModel", "layers_per_block": 1' + b"0" * 5_000 + b"}",
    "negative channels": {"block_out_channels": [-16, 32]},
    "an infinite size": b'{"_class_name": "UNet2DModel", "sample_size": 1e999}',
    "a size of 10^9": {"sample_size": 10**9},
    "many layers": {"layers_per_block": [16_384]},
    "an unknown block": {"down_block_types": ["\x1b[2J" * 10_000] * 2},
    "an unknown function": {"act_fn": "os.system"},
    "classes of 10^9": {"num_class_embeds": 10**9},
    "classes in words": {"num_class_embeds": "many"},
}
SCHEDULERS: dict[str, Any] = {
    "many steps": {"num_train_timesteps": 10**9},
    "half a step": {"num_train_timesteps": 0.5},
    "negative steps": {"num_train_timesteps": -5},
    "betas of infinity": b'{"beta_start": 1e999, "beta_end": 1}',
    "betas in words": {"trained_betas": ["a"] * 10},
    "many betas": {"trained_betas": [0.5] * 100_001},
    "betas above 1": {"trained_betas": [2.0] * 10},
    "an unknown noise": {"beta_schedule": "x" * 100_000},
}


def diffusers_folder(folder: Path, unet: Any = None, scheduler: Any = None, content: bytes | None = None) -> None:
    """A folder of diffusers with changes to its parts, or with other contents of them."""
    folder.mkdir(parents=True)
    for name, base, changed in (("config.json", UNET, unet), ("scheduler_config.json", BETAS, scheduler)):
        written = changed if isinstance(changed, bytes) else json.dumps(base | (changed or {})).encode()
        (folder / name).write_bytes(written)
    whole = safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(whole if content is None else content)


def one_chunk(path: Path) -> None:
    """Frequencies in one compressed chunk, a thousandth of its size."""
    with h5py.File(path, "w") as file:
        file.create_dataset("matrix", (2**12, 64), "f8", chunks=(2**12, 64), compression="gzip", fillvalue=0)
        file["matrix"][:] = 0
        file["y"] = np.zeros(2**12)


def elsewhere(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("matrix", (3, 64), "f8", external=[("/dev/zero", 0, 3 * 64 * 8)])
        file["y"] = np.zeros(3)


def arrays(**given: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **given)


MASK, MAPS = np.ones((8, 8)), np.ones((2, 8, 8), "c16")
MEASURED: dict[str, Callable[[Path], object]] = {
    "chunk.h5": one_chunk,
    "elsewhere.h5": elsewhere,
    "truncated.h5": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500)),
    "empty.npz": lambda path: path.write_bytes(b""),
    "text.npz": lambda path: path.write_text("kspace\n" * 99),
    "forged.npz": forged_zip,
    "square.npy": lambda path: sparse_npy(path, (20_000, 20_000), "f8"),
    "declared.npy": lambda path: path.write_bytes(header((10**5, 10**6), "f8")),
    "pickled.npz": arrays(matrix=np.array([{}, None], dtype=object), y=np.zeros(2)),
    "folder.npz": Path.mkdir,
    "matrix-0.npz": arrays(matrix=np.zeros((3, 64)), y=np.zeros(3)),
    "matrix-small.npz": arrays(matrix=np.full((3, 64), 1e-40), y=np.zeros(3)),
    "matrix-large.npz": arrays(matrix=np.full((3, 64), 1e308), y=np.zeros(3)),
    "matrix-nan.npz": arrays(matrix=np.full((3, 64), np.nan), y=np.zeros(3)),
    "maps-0.npz": arrays(kspace=MAPS, mask=MASK, maps=0 * MAPS),
    "maps-small.npz": arrays(kspace=MAPS, mask=MASK, maps=1e-40 * MAPS),
    "maps-large.npz": arrays(kspace=MAPS, mask=MASK, maps=1e308 * MAPS),
    "mask-0.npz": arrays(kspace=MAPS, mask=0 * MASK, maps=MAPS),
    "angles.npz": arrays(sinogram=np.ones((2, 8)), angles=np.array([np.inf, 0.0])),
}


def written(place: Path) -> Iterator[str]:
    """Writes all files, and yields the address of each."""
    for suffix, files in ((".pth", checkpoints()), (".pkl", edm_pickles())):
        for name, content in files:
            address = f"{name}{suffix}"
            (place / address).write_bytes(content)
            yield address
    for kind, parts in {
        "unet": {name: {"unet": changes} for name, changes in UNETS.items()},
        "noise": {name: {"scheduler": changes} for name, changes in SCHEDULERS.items()},
        "weights": {name: {"content": content} for name, content in weights()},
    }.items():
        for name, changes in parts.items():
            diffusers_folder(place / kind / name, **changes)
            yield f"{kind}/{name}"
    for name in ("folder.pth", "folder.pkl"):
        (place / name).mkdir()
        yield name
    (place / "measured").mkdir()
    for name, write in MEASURED.items():
        write(place / "measured" / name)
        yield f"measured/{name}"


def size_of(path: Path) -> int:
    """Bytes on the disk, of which a sparse file has few."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(512 * one.stat().st_blocks for one in files)


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux counts it")
def test_hostile_files_of_every_form_are_refused_in_one_sentence(tmp_path: Path) -> None:
    addresses = list(written(tmp_path))
    assert len(addresses) >= 100
    finished = subprocess.run(
        [sys.executable, "-c", READ_EACH, str(LIMIT_S)],
        input=json.dumps(addresses),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    problems = collections.defaultdict(list)
    for address, line in zip(addresses, finished.stdout.splitlines(), strict=True):
        told, seconds, taken = json.loads(line)
        size = size_of(tmp_path / address)
        if not told.startswith("refused: "):
            problems["not refused"].append((address, told[:200]))
        if Path(address).name not in told or len(told) > 700 or not told.isprintable():
            problems["no sentence"].append((address, told[:200]))
        if taken > COPIES * size + SPARE_BYTES:
            problems["memory"].append((address, taken, size))
        if seconds > LIMIT_S / 2:
            problems["time"].append((address, seconds))
    assert not problems
