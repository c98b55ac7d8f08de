"""Available memory: the smallest remainder of machine, containers and limits."""

from pathlib import Path

from ncsnx.storage.free_memory import _left_in_groups, available_memory


def test_available_memory_is_below_that_of_the_machine() -> None:
    whole = 1024 * int(Path("/proc/meminfo").read_text().split()[1])
    assert 0 < available_memory() < whole


def test_limits_of_a_container_and_of_its_parents_count(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("12:memory:/old\n0::/job/step\n")
    groups = tmp_path / "groups"
    for folder, limit, current, inactive in (("job/step", "max", 5, 0), ("job", "1000", 400, 100), (".", "700", 0, 0)):
        place = groups / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "memory.max").write_text(f"{limit}\n")
        (place / "memory.current").write_text(f"{current}\n")
        (place / "memory.stat").write_text(f"anon 7\ninactive_file {inactive}\n")
    assert list(_left_in_groups(groups, own)) == [700, 700]
    assert list(_left_in_groups(groups, tmp_path / "nothing")) == []
    assert list(_left_in_groups(tmp_path / "nothing", own)) == []
