"""The machine that a benchmark ran on."""

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

from ncsnx.runs.segments import versions

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile", "asimd", "bf16")
"""Flags of processors that matter for convolutions."""
_CPU_INFO = Path("/proc/cpuinfo")


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Processor, GPU, versions and load, as they are recorded."""
    facts: dict[str, Any] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "flags": processor_flags(),
        "device": str(device),
        "gpu": None,
        "torch": torch.__version__,
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = properties.name
        facts["gpu_memory_bytes"] = properties.total_memory
        facts["cuda"] = torch.version.cuda
    return facts


def processor() -> str:
    """The processor's model."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpu_info(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def processor_flags() -> list[str]:
    """The processor's instruction sets that matter here."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpu_info(), re.MULTILINE)
    words = set(found[1].split()) if found else set()
    return [flag for flag in _FLAGS if flag in words]


def _cpu_info() -> str:
    try:
        return _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
