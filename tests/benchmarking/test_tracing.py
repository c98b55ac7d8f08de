"""Counts of a pass: convolutions, operators, bytes, memory."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ncsnx.benchmarking.convolution_peak import Convolutions
from ncsnx.benchmarking.tracing import (
    kernel_count,
    kind_of_operation,
    peak_bytes,
    saved_bytes,
    shares_by_kind,
)

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ELU(), nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.Conv2d(8, 4, 1, stride=2)
    )


def test_the_convolutions_have_the_operations_that_torch_counts() -> None:
    net, x = network(), torch.rand(2, 3, 12, 12)

    def passes() -> None:
        net(x).sum().backward()

    found = Convolutions.of(passes, CPU)
    with FlopCounterMode(display=False) as counter:
        passes()
    assert found.operations == counter.get_total_flops()
    assert sum(count for _, _, count in found.calls) == 6


def test_the_convolutions_are_repeated_in_their_memory_order_and_as_often() -> None:
    net, x = network().to(memory_format=torch.channels_last), torch.rand(2, 3, 12, 12)
    twice = nn.Sequential(net, nn.Conv2d(4, 3, 1), nn.Upsample(scale_factor=2), net)
    with torch.no_grad():
        found = Convolutions.of(lambda: twice(x.to(memory_format=torch.channels_last)), CPU)
    inner = [arguments for _, arguments, count in found.calls if count == 2]
    assert len(inner) == 3
    assert all(arguments[0].is_contiguous(memory_format=torch.channels_last) for arguments in inner)
    again = Convolutions.of(found.run, CPU)
    assert again.operations == found.operations
    assert sum(count for _, _, count in again.calls) == sum(count for _, _, count in found.calls) == 7


def test_saved_bytes_are_those_of_distinct_activations() -> None:
    weight = nn.Parameter(torch.rand(100, 50))
    x = torch.rand(20, 100)
    assert saved_bytes(lambda: (x @ weight).sum(), [weight]) == 4 * x.numel()
    assert saved_bytes(lambda: (x @ weight).exp().exp().sum(), [weight]) == 4 * (x.numel() + 2 * 20 * 50)


def test_views_are_no_kernels() -> None:
    x = torch.rand(4, 4)
    assert kernel_count(lambda: (x.t().unsqueeze(0) + 1).relu(), CPU, is_compiled=False) == 2
    assert kernel_count(lambda: x + 1, CPU, is_compiled=True) is None


def test_the_peak_has_what_a_job_holds_at_once() -> None:
    size = 2**26  # bytes

    def job() -> None:
        for _ in range(3):
            torch.ones(size, dtype=torch.uint8)

    found = peak_bytes(job, CPU)
    if found is None:
        pytest.skip("this system doesn't say the peak of resident memory")
    assert 0.9 * size < found < 1.6 * size


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::convolution_backward", "convolution"),
        ("aten::max_pool2d_with_indices_backward", "pools"),
        ("aten::upsample_bilinear2d", "resizing"),
        ("aten::native_batch_norm_backward", "normalization"),
        ("aten::linalg_vector_norm", "normalization"),
        ("aten::elu_backward", "elementwise"),
        ("aten::convert_element_type", "elementwise"),
    ],
)
def test_operations_have_a_kind(name: str, kind: str) -> None:
    assert kind_of_operation(name) == kind


@pytest.mark.parametrize("profiled", [False, True])
def test_shares_find_where_the_time_goes(profiled: bool) -> None:
    net, x = nn.Conv2d(64, 64, 3, padding=1), torch.rand(4, 64, 32, 32)
    with torch.no_grad():
        shares = shares_by_kind(lambda: net(x), CPU, is_compiled=profiled)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["convolution"] > 0.6
