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
from ncsnx.networks import Execution, build_network, prepare
from ncsnx.runtime import Runtime
from ncsnx.tensorfloat import allow_tf32, tf32_products
from tests.golden_networks import small_experiment

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


def test_processors_are_told_apart_by_their_name_and_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "cpuinfo"
    monkeypatch.setattr(runtime, "_CPU_FACTS", facts)
    capability = torch.backends.cpu.get_cpu_capability()
    assert CPU.facts()["device_name"] == f"{platform.processor() or platform.machine()}, {capability}"
    facts.write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9654\n\nmodel name\t: AMD EPYC 9654\n")
    assert CPU.facts()["device_name"] == f"AMD EPYC 9654, {capability}"


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
    network = build_network(small_experiment(NCSNv2(width=4)))
    prepare(network, Execution(precision=precision))  # type: ignore[arg-type]
    forward, backward = set[Settings](), set[Settings]()
    for module in network.modules():
        module.register_forward_hook(lambda *_: forward.add(settings()))
    for parameter in network.parameters():
        parameter.register_hook(lambda _: backward.add(settings()))
    loss = network.score(torch.rand(1, 1, 8, 8), 1.0).square().sum()
    with network.products():
        loss.backward()  # type: ignore[no-untyped-call]
    return forward, backward


def test_a_tf32_network_multiplies_so_in_both_passes_and_one_in_fp32_after_it_does_not() -> None:
    before = settings()
    assert passes("tf32") == ({ON}, {ON})
    assert passes("fp32") == ({before}, {before})
    assert passes("bf16") == ({before}, {before})
    assert settings() == before
