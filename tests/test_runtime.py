"""Runtime choices: which precision runs where."""

import attrs
import pytest
import torch

from ncsnx.config import Experiment
from ncsnx.config.discovery import resolve
from ncsnx.config.experiment import Precision
from ncsnx.errors import UsageError
from ncsnx.runtime import Runtime

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


def test_training_has_the_precision_of_the_experiment_whatever_is_chosen_for_trained_networks() -> None:
    chosen = attrs.evolve(CPU, precision="bf16").for_training(experiment("fp32"))
    assert chosen.execution(experiment("fp32")).precision == "fp32"
