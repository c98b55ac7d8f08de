"""Configuration of feature networks: tags, fields, and that no saved experiment can contain one."""

from typing import Any, get_args, get_type_hints

from ncsnx.config import Config, Experiment
from ncsnx.config.feature_networks import Features
from ncsnx.config.variants import is_family, variants


def reachable(declared: Any, seen: set[type[Config]]) -> set[type[Config]]:
    """The configuration classes that a declared type can contain, directly or in fields."""
    for part in get_args(declared):
        reachable(part, seen)
    if isinstance(declared, type) and issubclass(declared, Config) and declared not in seen:
        seen.add(declared)
        for inner in [
            *get_type_hints(declared).values(),
            *(variants(declared).values() if is_family(declared) else ()),
        ]:
            reachable(inner, seen)
    return seen


def test_no_experiment_holds_features_so_that_no_saved_file_names_code_to_be_executed() -> None:
    held = reachable(Experiment, set())
    assert len(held) > 10
    assert not [cls for cls in held if issubclass(cls, Features)]
