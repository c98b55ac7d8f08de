"""GPUs that a training can be planned for without having them: peaks and bandwidths from their data sheets."""

from collections.abc import Mapping

import attrs

from ncsnx.config.checks import shortened
from ncsnx.config.experiment import Precision
from ncsnx.errors import UsageError
from ncsnx.spelling import parameter


@attrs.frozen(kw_only=True)
class Card:
    """A GPU, and the network of the machines that it is usually built into."""

    title: str
    peaks: Mapping[Precision, float]
    """Dense peak of matrix products by number format, in operations per second; formats that it lacks are missing."""
    memory_bytes_per_s: float
    link_bytes_per_s: float
    """Bandwidth to the other GPUs of its machine, in one direction. Data sheets give both directions together."""
    network_bytes_per_s: float
    """Bandwidth between machines, of all network ports of a machine together, in one direction."""
    is_named_by: str
    """Beginning of the name by which CUDA knows it."""


_HOPPER: Mapping[Precision, float] = {"fp32": 67e12, "tf32": 494.5e12, "bf16": 989.5e12}
_ONE_PORT = 12.5e9
"""Bytes per second of one port of 100 Gb/s, for cards without a reference machine."""

CARDS: Mapping[str, Card] = {
    # NVIDIA H100 data sheet, column SXM (TF32 989 and BF16 1,979 TFLOPS with sparsity, half of it without; 3.35 TB/s;
    # NVLink 900 GB/s); DGX H100 data sheet (8 ports of 400 Gb/s)
    "h100": Card(
        title="NVIDIA H100 SXM 80 GB",
        peaks=_HOPPER,
        memory_bytes_per_s=3.35e12,
        link_bytes_per_s=450e9,
        network_bytes_per_s=400e9,
        is_named_by="NVIDIA H100 80GB HBM3",
    ),
    # NVIDIA H200 data sheet, column SXM (peaks of the H100; 4.8 TB/s; NVLink 900 GB/s); DGX H200 data sheet
    "h200": Card(
        title="NVIDIA H200 SXM 141 GB",
        peaks=_HOPPER,
        memory_bytes_per_s=4.8e12,
        link_bytes_per_s=450e9,
        network_bytes_per_s=400e9,
        is_named_by="NVIDIA H200",
    ),
    # NVIDIA A100 80GB data sheet, column SXM (FP32 19.5, TF32 156, BF16 312 TFLOPS; 2,039 GB/s; NVLink 600 GB/s);
    # DGX A100 data sheet (8 ports of 200 Gb/s)
    "a100": Card(
        title="NVIDIA A100 SXM 80 GB",
        peaks={"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12},
        memory_bytes_per_s=2.039e12,
        link_bytes_per_s=300e9,
        network_bytes_per_s=200e9,
        is_named_by="NVIDIA A100-SXM4-80GB",
    ),
    # NVIDIA V100 data sheet, column SXM2 (15.7 TFLOPS; 900 GB/s; NVLink 300 GB/s; neither TF32 nor BF16); DGX-1 with
    # Tesla V100 system architecture white paper (4 ports of 100 Gb/s)
    "v100": Card(
        title="NVIDIA V100 SXM2",
        peaks={"fp32": 15.7e12},
        memory_bytes_per_s=900e9,
        link_bytes_per_s=150e9,
        network_bytes_per_s=50e9,
        is_named_by="Tesla V100-SXM2",
    ),
    # NVIDIA L40S data sheet (FP32 91.6, TF32 183, BF16 362 TFLOPS without sparsity; 864 GB/s; PCIe Gen4 x16, 64 GB/s
    # in both directions)
    "l40s": Card(
        title="NVIDIA L40S",
        peaks={"fp32": 91.6e12, "tf32": 183e12, "bf16": 362e12},
        memory_bytes_per_s=864e9,
        link_bytes_per_s=32e9,
        network_bytes_per_s=_ONE_PORT,
        is_named_by="NVIDIA L40S",
    ),
    # NVIDIA Ada GPU architecture white paper, appendix A (FP32 82.6, TF32 82.6, BF16 with FP32 accumulation 165.2
    # TFLOPS without sparsity; 1,008 GB/s; PCIe Gen4 x16)
    "rtx4090": Card(
        title="NVIDIA GeForce RTX 4090",
        peaks={"fp32": 82.6e12, "tf32": 82.6e12, "bf16": 165.2e12},
        memory_bytes_per_s=1008e9,
        link_bytes_per_s=32e9,
        network_bytes_per_s=_ONE_PORT,
        is_named_by="NVIDIA GeForce RTX 4090",
    ),
}


def card_named(name: str) -> Card:
    """The card of that name, in upper or lower case. Raises UsageError with the known names."""
    card = CARDS.get(name.lower())
    if card is None:
        raise UsageError(f"{parameter('card')} {shortened(ascii(name))}: expected one of {', '.join(CARDS)}")
    return card


def card_of_device(name: str) -> Card | None:
    """The card by the name that CUDA gives it; None for an unknown one."""
    return next((card for card in CARDS.values() if name.startswith(card.is_named_by)), None)
