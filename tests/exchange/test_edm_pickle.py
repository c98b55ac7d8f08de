"""Network pickles in EDM's form, which the tests make themselves: exact numbers, and nothing executed."""

import collections
import io
import math
import os
import pickle
import struct
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ncsnx
from ncsnx.config import UNet
from ncsnx.errors import NcsnxError
from ncsnx.exchange.persistent_pickles import read_network_pickle
from ncsnx.exchange.sources.edm_pickle import EdmPickle
from ncsnx.networks import Network
from ncsnx.work import SILENT
from tests.forked import REPOSITORY
from tests.golden_networks import relative_error
from tests.networks.test_edm import NAMES, Published
from tests.training.tiny import command


class Persistent:
    """A module as the published code pickles it: by its class's name, the text of its file and its state."""

    def __init__(self, name: str, parameters: dict[str, Tensor], modules: "dict[str, Persistent]", **more: Any) -> None:
        wrapped = {key: torch.nn.Parameter(value, requires_grad=False) for key, value in parameters.items()}
        buffers = {key: wrapped.pop(key).data for key in list(wrapped) if key in ("resample_filter", "freqs")}
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit('the text was executed')",
            "class_name": name,
            "state": {
                "training": False,
                "_parameters": collections.OrderedDict(wrapped),
                "_buffers": collections.OrderedDict(buffers),
                "_non_persistent_buffers_set": set(),
                "_backward_hooks": collections.OrderedDict(),
                "_modules": collections.OrderedDict(modules),
                **more,
            },
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


@pytest.fixture(autouse=True)
def persistence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that the files name, which no installation has."""

    def _reconstruct_persistent_obj(meta: object) -> None:
        raise AssertionError("the file was executed")

    module = types.ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = _reconstruct_persistent_obj.__name__
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)


def nested(tensors: dict[str, Tensor], name: str, **more: Any) -> Persistent:
    """The module of these tensors by dotted name."""
    own = {key: tensor for key, tensor in tensors.items() if "." not in key}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, dot, rest = key.partition(".")
        if dot:
            parts.setdefault(part, {})[rest] = tensor
    return Persistent(name, own, {part: nested(inner, part) for part, inner in parts.items()}, **more)


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """(configuration, state, other tensors) of a published network."""
    published = Published.read(name)
    state = {key[6:]: tensor for key, tensor in published.tensors.items() if key.startswith("state.")}
    return published.config, state, published.tensors


def arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Keywords of the network's constructor."""
    given = {name: value for name, value in config.items() if name not in ("sigmas", "steps", "network", "factor")}
    return {"model_type": "SongUNet", "use_fp16": False, **given}


def written(path: Path, state: dict[str, Tensor], kwargs: dict[str, Any], name: str = "EDMPrecond") -> Path:
    """A file as the published code writes it."""
    network = nested(state, name, _init_args=(), _init_kwargs=kwargs)
    content = {"ema": network, "loss_fn": None, "augment_pipe": None, "dataset_kwargs": {"path": "x.zip"}}
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("name", [*NAMES, "vp_cond", "vp_cond_enlarged"])
@torch.no_grad()
def test_a_pickle_gives_the_published_images(name: str, tmp_path: Path) -> None:
    config, state, tensors = golden(name)
    command("import", str(written(tmp_path / f"{name}.pkl", state, arguments(config))), folder=tmp_path).done()
    model = ncsnx.load(tmp_path / "runs" / name)
    assert (model.space.sigma_data, model.space.ends, model.levels[0]) == (0.5, (-1.0, 1.0), 80.0)
    cond = {"classes": tensors["classes"].long()} if "classes" in tensors else {}
    for k, sigma in enumerate(config["sigmas"]):
        x = tensors[f"noisy.{k}"]
        rounding = 3 * 2**-24 * float(x.abs().max() / tensors[f"denoised.{k}"].abs().max())
        found = x + sigma * model.network.scaled_score(x, torch.full((4,), sigma), cond)
        assert relative_error(found, tensors[f"denoised.{k}"]) < max(2e-5, rounding)
        if cond:
            found = x + sigma * model.network.scaled_score(x, torch.full((4,), sigma))
            assert relative_error(found, tensors[f"denoised_without_class.{k}"]) < max(2e-5, rounding)


@pytest.mark.parametrize("sigma_data", [0.25, 1.0])
@torch.no_grad()
def test_another_size_of_the_data_gives_the_published_denoiser(sigma_data: float, tmp_path: Path) -> None:
    """D = c_skip x + c_out F(c_in x; ¼ ln σ), Karras et al. 2022, table 1, whatever σ_data.

    F is that of the same weights with σ_data = 0.5, whose D is the published one by other tests.
    """
    config, state, _ = golden("vp_cond_enlarged")
    networks = []
    for name, more in (("half", {}), ("other", {"sigma_data": sigma_data})):
        path = written(tmp_path / f"{name}.pkl", state, arguments(config) | more)
        command("import", str(path), folder=tmp_path).done()
        networks.append(ncsnx.load(tmp_path / "runs" / name).network.double())
    cond, generator = {"classes": torch.tensor([0, 3])}, torch.Generator().manual_seed(0)

    def denoised(network: Network, x: Tensor, sigma: float) -> Tensor:
        return x + sigma * network.scaled_score(x, torch.full((2,), sigma, dtype=torch.float64), cond)

    for sigma in (0.002, 1.0, 80.0):
        deviation = math.hypot(sigma, sigma_data)
        x = deviation * torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64)
        c_skip, c_out, c_in = preconditioning(sigma, sigma_data)
        skip_half, out_half, in_half = preconditioning(sigma, 0.5)
        given = c_in * x / in_half
        f = (denoised(networks[0], given, sigma) - skip_half * given) / out_half
        assert relative_error(denoised(networks[1], x, sigma), c_skip * x + c_out * f) < 2e-5


def preconditioning(sigma: float, sigma_data: float) -> tuple[float, float, float]:
    """c_skip, c_out and c_in."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / math.sqrt(total), 1 / math.sqrt(total)


def test_images_of_a_conditional_network_take_the_classes_in_turn(tmp_path: Path) -> None:
    config, state, _ = golden("vp_cond_enlarged")
    command("import", str(written(tmp_path / "cond.pkl", state, arguments(config))), folder=tmp_path)
    model = ncsnx.load(tmp_path / "runs" / "cond")
    assert model.inputs(0, torch.arange(12))["classes"].tolist() == [*range(10), 0, 1]
    drawn = ncsnx.draw(model, n=3, sampler=model.sampler)
    assert not drawn[0].allclose(drawn[1], atol=0.01)
    with pytest.raises(
        NcsnxError, match=r"must be the class of each image, \(3,\) int64, each from 0 to 9, since this"
    ):
        model.denoise(model.to_network(drawn), 1.0)


def test_sides_that_no_stage_has_attend_nowhere(tmp_path: Path) -> None:
    config, state, _ = golden("vp_uncond")
    path = written(tmp_path / "x.pkl", state, {**arguments(config), "attn_resolutions": [16 * 9, 8]})
    found = EdmPickle().read(str(path), None, SILENT).declared.model
    assert isinstance(found, UNet)
    assert found.attention == (8,)


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    config, state, _ = golden("vp_uncond")
    for changes, name, told in (
        ({"encoder_type": "residual"}, "EDMPrecond", "encoder_type=residual"),
        ({"model_type": "DhariwalUNet"}, "EDMPrecond", "model_type=DhariwalUNet"),
        ({}, "VPPrecond", "is a 'VPPrecond'; only EDM's DDPM"),
        ({"img_resolution": float("inf")}, "EDMPrecond", "its network has impossible arguments"),
        ({"sigma_data": 10**400}, "EDMPrecond", "its network has impossible arguments"),
        (
            {"img_channels": "\x1b[2J" * 99},
            "EDMPrecond",
            r"impossible arguments: .*\\x1b\[2J.*… \([0-9]+ characters\)$",
        ),
        (
            {"attn_resolutions": [5]},
            "EDMPrecond",
            "middle alone, .*, of 16, 8, 4 px, is in attn_resol",
        ),
        ({"img_resolution": 28, "channel_mult": [1] * 4, "attn_resolutions": [7]}, "EDMPrecond", "a multiple of 8"),
        ({"augment_dim": "\x1b[2J"}, "EDMPrecond", r"takes '\\x1b\[2J' labels"),
        ({"model_channels": 16}, "EDMPrecond", "and its network needs"),
        ({"num_blocks": "many"}, "EDMPrecond", "model.blocks: expected a whole number"),
        ({"augment_dim": 3}, "EDMPrecond", "takes 3 labels of augmentation"),
        ({"img_channels": 10**9}, "EDMPrecond", "shape must be between 1 and 16,384, not 1,000,000,000"),
        ({"sigma_data": -1.0}, "EDMPrecond", "sigma_data must be a finite number > 0"),
    ):
        path = written(tmp_path / "other.pkl", state, {**arguments(config), **changes}, name)
        with pytest.raises(NcsnxError, match=told) as refused:
            EdmPickle().read(str(path), None, SILENT)
        assert not refused.value.hints


# ------------------------------------------------------------------------------------------------------ hostile files


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object, state: object = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def _old_format(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def _rebuilt(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Any:
    storage = torch.zeros(4).storage()
    return Calls(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, collections.OrderedDict())


def _whole(parameter: object) -> bytes:
    network = Persistent("EDMPrecond", {}, {}, _init_kwargs={})
    network.meta["state"]["_parameters"]["weight"] = parameter
    return pickle.dumps({"ema": network})


def hostile(mark: Path) -> Iterator[tuple[str, bytes]]:
    """Files that would do harm: each writes `mark` or takes memory, if it is executed or believed."""
    touch = f"open({str(mark)!r}, 'w')"
    yield "system", pickle.dumps({"ema": Calls(__import__("os").system, f"touch {mark}")})
    yield "eval", pickle.dumps({"ema": Calls(eval, touch)})
    yield "exec in a state", _whole(Calls(exec, touch))
    yield "torch.load", pickle.dumps({"ema": Calls(torch.load, "other.pth")})
    yield "old storage of code", _whole(Calls(torch.storage._load_from_bytes, _old_format(Calls(eval, touch))))
    zipped = io.BytesIO()
    torch.save(Calls(eval, touch), zipped)
    yield "zipped storage of code", _whole(Calls(torch.storage._load_from_bytes, zipped.getvalue()))
    yield "plain pickle as a storage", _whole(Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(eval, touch))))
    nested_lists = _old_format([])[:-1] + b"]" * 1_000_000 + b"a" * 999_999 + b"."
    yield "a long pickle in a storage", _whole(Calls(torch.storage._load_from_bytes, nested_lists))
    flat = b"\x80\x02" + b"N0" * 1_500_000 + b"N."
    yield "a long first pickle in a storage", _whole(Calls(torch.storage._load_from_bytes, flat))
    yield "state of a function", b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n}\x8c\x01aK\x01sb."
    yield "state of a class", b"\x80\x04ccollections\nOrderedDict\n}\x8c\x08__init__K\x01sb."
    yield "dotted name", b"\x80\x04\x8c\x05torch\x8c\x11storage.os.system\x93."
    yield "extension", b"\x80\x02\x82\x01."
    yield "persistent id", b"\x80\x04K\x01Q."
    yield "instance", b"(ios\nsystem\n(S'true'\ntR."
    yield "2^60 bytes", b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x."
    yield "2^40 bytearray", b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x."
    yield "2^31 memo", b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b"."
    yield "2^60 frame", b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N."
    yield "long number", b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"1."
    yield "beyond its storage", _whole(_rebuilt((100,), (1,)))
    yield "offset beyond", _whole(_rebuilt((1,), (1,), 2**40))
    yield "negative stride", _whole(_rebuilt((2,), (-1,)))
    yield "stride 0 of 2^40", _whole(_rebuilt((2**40,), (0,)))
    yield "stride 0 of 4 GiB", _whole(_rebuilt((2**30,), (0,)))
    content = _old_format(torch.zeros(10**5).storage())
    loads = b"]\x94(" + b"h\x00h\x01\x85R" * 10_000 + b"e."
    storage = b"B" + struct.pack("<I", len(content)) + content + b"\x94"
    yield "one storage again and again", b"\x80\x04ctorch.storage\n_load_from_bytes\n\x94" + storage + loads
    pairs = b"](" + b"".join(b"\x8c\x04%04dN\x86" % number for number in range(5000)) + b"e\x94"
    yield "copies of a list", b"\x80\x04ccollections\nOrderedDict\n\x94" + pairs + loads
    tensor = _rebuilt((2,), (1,))
    yield "state of a tensor", _whole(Calls(*tensor.reduced, state=[torch.zeros(4).storage(), 0, (2**30,), (0,)]))
    yield "shape without strides", _whole(_rebuilt((2, 2), ()))
    deep = b"\x80\x04" + b"]" * 2_000_000 + b"a" * 1_999_999 + b"."
    yield "deep lists", deep
    cycle = Persistent("EDMPrecond", {}, {}, _init_kwargs={})
    cycle.meta["state"]["_modules"]["again"] = collections.OrderedDict()
    yield "module that is none", pickle.dumps({"ema": cycle})
    yield (
        "self in itself",
        b"\x80\x04ctorch_utils.persistence\n_reconstruct_persistent_obj\n}\x94\x8c\x05statesh\x00\x85R.",
    )
    yield "truncated", pickle.dumps({"ema": Persistent("EDMPrecond", {"weight": torch.zeros(9)}, {})})[:-40]
    yield "no network", pickle.dumps({"loss": 1})
    yield "list", pickle.dumps([1, 2])
    yield "empty", b""
    yield "text", b"hello"
    yield "zeros", bytes(1000)
    yield "getattr", pickle.dumps({"ema": Calls(getattr, "x", "__class__")})
    yield "builtins by alias", b"\x80\x02c__builtin__\neval\nU\x01x\x85R."
    tuples = (
        b"\x80\x04(" + b"N" * 10 + b"t\x94" + b"".join(b"(" + (b"h" + bytes([k])) * 10 + b"t\x94" for k in range(20))
    )
    yield "tuples of tuples as a key", tuples + b"}h\x14Ns."
    yield "tuples of tuples as a name", tuples + b"."
    yield "numbers as keys", pickle.dumps({1: 2, "ema": None})
    yield "protocol 255", b"\x80\xffN."


READ_ALL = """
import resource, sys
from pathlib import Path
from ncsnx.errors import NcsnxError
from ncsnx.exchange.sources.edm_pickle import EdmPickle
from ncsnx.work import SILENT

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        EdmPickle().read(str(path), None, SILENT)
        print("read")
    except NcsnxError as error:
        print(type(error).__name__ + ":", error.message)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_hostile_files_are_refused_in_one_sentence_and_execute_nothing(tmp_path: Path) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "bad"
    folder.mkdir()
    cases = list(hostile(mark))
    assert len(cases) >= 35
    for number, (_, content) in enumerate(cases):
        (folder / f"{number:02}.pkl").write_bytes(content)
    finished = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(folder)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    lines = finished.stdout.splitlines()
    assert len(lines) == len(cases) + 1
    for line, (name, _) in zip(lines, cases, strict=False):
        assert line.startswith("NcsnxError: "), (name, line)
    assert int(lines[-1]) < 600_000  # kilobytes, beyond what the process had before
    assert not mark.exists()


def test_the_text_in_a_file_is_never_looked_at(tmp_path: Path) -> None:
    config, state, _ = golden("vp_uncond")
    found = read_network_pickle(written(tmp_path / "net.pkl", state, arguments(config)))
    assert found.class_name == "EDMPrecond"
    assert found.tensors.keys() == state.keys()
    assert all(found.tensors[name].equal(state[name]) for name in state)
