"""TF32: the settings of the process hold in both passes of the networks that ask for it, and nowhere else."""

import warnings

import pytest
import torch

from ncsnx.config import NCSNv2
from ncsnx.networks import Execution, build_network, prepare
from ncsnx.tensorfloat import allow_tf32, tf32_products
from tests.golden_networks import small_experiment

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
