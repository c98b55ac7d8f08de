"""Memory use as shown in the live view."""

from ncsnx.console.memory import resident_bytes


def test_memory_grows_by_what_is_allocated() -> None:
    before = resident_bytes()
    block = b"x" * (256 * 2**20)
    grown = resident_bytes() - before
    assert len(block) * 0.9 < grown < len(block) * 1.5
