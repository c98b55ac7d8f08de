"""Which precision runs where, and TF32 in the settings of the process."""

import platform
import warnings
from pathlib import Path

import attrs
import pytest
import torch

from ncsnx import runtime
from ncsnx.config import Experiment, NCSNv2
from ncsnx.config.discovery import resolve
from ncsnx.config.experiment import Precision
from ncsnx.errors import UsageError
from ncsnx.networks import Execution, prepare
from ncsnx.runtime import Runtime
from ncsnx.samplers.state import score_of
from ncsnx.tensorfloat import allow_tf32, tf32_products
from tests.golden_networks import small_experiment
from tests.spaces import untrained

CPU = Runtime(device=torch.device("cpu"), threads=1)
GPU = Runtime(device=torch.device("cuda"), threads=1)


DIGITS = resolve("digits").experiment


def experiment(precision: Precision) -> Experiment:
    return attrs.evolve(DIGITS, precision=precision)


def test_a_trained_network_runs_in_the_experiments_precision_or_the_chosen_one() -> None:
    chosen = attrs.evolve(CPU, precision="bf16")
    assert CPU.execution(experiment("bf16")).precision == "bf16"
    assert chosen.execution(experiment("fp32")).precision == "bf16"
    assert "precision" not in CPU.facts()
    assert chosen.facts()["precision"] == "bf16"


def test_processors_are_told_apart_by_name_and_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = tmp_path / "cpuinfo"
    monkeypatch.setattr(runtime, "_CPU_FACTS", facts)
    capability = torch.backends.cpu.get_cpu_capability()
    assert CPU.facts()["device_name"] == f"{platform.processor() or platform.machine()}, {capability}"
    facts.write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9654\n\nmodel name\t: AMD EPYC 9654\n")
    assert CPU.facts()["device_name"] == f"AMD EPYC 9654, {capability}"


def test_memory_is_contiguous_where_channels_last_is_wrong_or_would_be_converted_back() -> None:
    unet = resolve("digits_edm").experiment
    mps = attrs.evolve(CPU, device=torch.device("mps"))
    cases = [(CPU, DIGITS), (CPU, unet), (GPU, DIGITS), (GPU, unet), (mps, DIGITS), (mps, unet)]
    formats = [runtime.execution(one).memory_format for runtime, one in cases]
    assert formats == ["channels_last"] * 3 + ["contiguous"] * 3


def capability(monkeypatch: pytest.MonkeyPatch, major: int, minor: int) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, minor))


def test_tf32_and_bf16_on_cuda_need_an_ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    capability(monkeypatch, 7, 5)
    for precision in ("tf32", "bf16"):
        told = rf"^precision={precision} needs .* 8\.0 \(Ampere\) or above; cuda has 7\.5; use fp32: precision=fp32$"
        with pytest.raises(UsageError, match=told):
            GPU.for_training(experiment(precision))
    with pytest.raises(UsageError, match=r"^the network was trained in bf16, which needs .*precision='fp32'$"):
        GPU.for_weights_of(experiment("bf16"))
    assert GPU.for_training(experiment("fp32")) == GPU
    assert CPU.for_training(experiment("bf16")) == CPU


def test_the_chosen_gpu_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current = list[torch.device]()
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    Runtime.choose(device="cuda")
    chosen = Runtime.choose(device="cuda:1").device
    assert current == [chosen] == [torch.device("cuda:1")]


def test_tf32_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    capability(monkeypatch, 8, 0)
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


def test_training_has_the_precision_of_the_experiment_whatever_is_chosen_for_trained_networks() -> None:
    chosen = attrs.evolve(CPU, precision="bf16").for_training(experiment("fp32"))
    assert chosen.execution(experiment("fp32")).precision == "fp32"


Settings = tuple[str, str, bool, bool]
ON = ("tf32", "tf32", True, True)


def settings() -> Settings:
    """The settings of convolutions and matrix products, under their newer and their older names."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    return cudnn.conv.fp32_precision, products.fp32_precision, cudnn.allow_tf32, products.allow_tf32


def test_the_settings_hold_within_the_block_and_return_after_it_and_after_an_error() -> None:
    before = settings()
    assert before != ON
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tf32_products():
            assert settings() == ON
    assert settings() == before
    with pytest.raises(ZeroDivisionError), tf32_products():
        _ = 1 / 0
    assert settings() == before


def test_a_setting_of_the_newer_names_alone_returns() -> None:
    convolutions, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    try:
        convolutions.fp32_precision, products.fp32_precision = "ieee", "tf32"
        with tf32_products():
            assert settings() == ON
        assert (convolutions.fp32_precision, products.fp32_precision) == ("ieee", "tf32")
    finally:
        allow_tf32(convolutions=before[0] == "tf32", products=before[1] == "tf32")
        convolutions.fp32_precision, products.fp32_precision = before


def passes(precision: str) -> tuple[set[Settings], set[Settings]]:
    """The settings that a network sees in its forward and in its backward pass."""
    network = untrained(small_experiment(NCSNv2(width=4)))
    prepare(network, Execution(precision=precision))  # type: ignore[arg-type]
    forward, backward = set[Settings](), set[Settings]()
    for module in network.modules():
        module.register_forward_hook(lambda *_: forward.add(settings()))
    for parameter in network.parameters():
        parameter.register_hook(lambda _: backward.add(settings()))
    loss = score_of(network.scaled_score, torch.rand(1, 1, 8, 8), 1.0).square().sum()
    with network.products():
        loss.backward()  # type: ignore[no-untyped-call]
    return forward, backward


def test_a_tf32_network_multiplies_so_in_both_passes_and_one_in_fp32_after_it_does_not() -> None:
    before = settings()
    assert passes("tf32") == ({ON}, {ON})
    assert passes("fp32") == ({before}, {before})
    assert passes("bf16") == ({before}, {before})
    assert settings() == before
