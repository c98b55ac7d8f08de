"""Runtime choices: which precision runs where, and which processors have bfloat16."""

from types import MappingProxyType
from typing import Any

import attrs
import pytest
import torch

from ncsnx.config import Experiment
from ncsnx.config.discovery import resolve
from ncsnx.config.experiment import Precision
from ncsnx.errors import UsageError
from ncsnx.runtime import Runtime, has_fast_bf16

CPU = Runtime(device=torch.device("cpu"), threads=1)
GPU = Runtime(device=torch.device("cuda"), threads=1)


DIGITS = resolve("digits").experiment


def experiment(precision: Precision) -> Experiment:
    return attrs.evolve(DIGITS, precision=precision)


def test_a_trained_network_runs_in_the_experiments_precision_or_the_chosen_one() -> None:
    chosen = attrs.evolve(CPU, precision="bf16")
    assert CPU.execution(experiment("bf16")).precision == "bf16"
    assert chosen.execution(experiment("fp32")).precision == "bf16"
    assert chosen.precision_in_words(experiment("fp32")) == ", in bf16"
    assert chosen.precision_in_words(experiment("bf16")) == CPU.precision_in_words(experiment("bf16")) == ""
    assert "precision" not in CPU.facts()
    assert chosen.facts()["precision"] == "bf16"


def test_tf32_needs_cuda() -> None:
    assert GPU.for_training(experiment("tf32")) == GPU
    assert GPU.for_weights_of(experiment("tf32")) is GPU
    with pytest.raises(UsageError, match=r"^precision=tf32 runs on CUDA only, .*is cpu; .*precision=fp32$"):
        CPU.for_training(experiment("tf32"))
    with pytest.raises(UsageError, match=r"trained in tf32, which runs on CUDA only, .*precision='fp32'$"):
        CPU.for_weights_of(experiment("tf32"))
    with pytest.raises(UsageError, match=r"^precision='tf32' runs on CUDA only"):
        attrs.evolve(CPU, precision="tf32").for_weights_of(experiment("fp32"))
    assert attrs.evolve(CPU, precision="fp32").for_weights_of(experiment("tf32")).precision == "fp32"


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"^precision 'fp16': expected one of fp32, tf32, bf16$"):
        Runtime.choose(device="cpu", precision="fp16")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "avx512_f": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_bf16_is_fast_where_the_processor_multiplies_it(
    capabilities: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities), raising=False)
    assert has_fast_bf16(torch.device("cpu")) is expected


@pytest.mark.parametrize(("names", "expected"), [({"avx512_bf16"}, True), ({"amx_tile"}, True), (set(), False)])
def test_an_older_torch_is_asked_by_its_own_probes(
    names: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in names, raising=False)
    assert has_fast_bf16(torch.device("cpu")) is expected


def test_what_torch_cannot_tell_is_not_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("get_capabilities", "_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not has_fast_bf16(torch.device("cpu"))
    assert not has_fast_bf16(torch.device("mps"))


def test_training_has_the_precision_of_the_experiment_whatever_is_chosen_for_trained_networks() -> None:
    chosen = attrs.evolve(CPU, precision="bf16").for_training(experiment("fp32"))
    assert chosen.execution(experiment("fp32")).precision == "fp32"
