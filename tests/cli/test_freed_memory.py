"""Commands keep freed memory for their next step."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ncsnx.cli import _M_MMAP_THRESHOLD, _keep_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
NAMES = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")

_MIB = 64
_FAULTS = f"""
import resource, sys
from ncsnx.cli import main

sys.argv = ["ncsnx", "--version"]
try:
    main()
except SystemExit:
    pass
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * ({_MIB} << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_of_a_second_block(**variables: str) -> int:
    """Pages that the system gives to a command for a block as large as one that was freed."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | variables
    command = [sys.executable, "-c", _FAULTS]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(ended.stdout.split()[-1])


def test_memory_that_was_freed_is_used_again_without_asking_the_system() -> None:
    assert pages_of_a_second_block() < 100


def test_the_users_own_choice_for_the_allocator_holds() -> None:
    assert pages_of_a_second_block(MALLOC_TRIM_THRESHOLD_="131072") > (_MIB << 20) // os.sysconf("SC_PAGE_SIZE") // 2


def test_freed_memory_is_kept_only_if_large_blocks_come_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def mallopt(parameter: int, value: int) -> int:
        """The mallopt of a glibc that accepts no other threshold for large blocks."""
        calls.append((parameter, value))
        return int(parameter != _M_MMAP_THRESHOLD)

    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    _keep_freed_memory()
    assert calls == [(_M_MMAP_THRESHOLD, 2**30), (_M_MMAP_THRESHOLD, 2**25)]


def test_without_the_c_library_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(name: None) -> None:
        raise OSError("no shared libraries")

    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", unavailable)
    _keep_freed_memory()
