"""The saved form of an experiment: strict JSON with a version, tags for variants, and every default written out.

Every error names the full path of the value, what was found and what is accepted.
"""

import hashlib
import json
from enum import Enum
from typing import Any

import attrs

from ncsnx.config.converter import StructureError, structure, unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.origins import is_default
from ncsnx.config.pretrained import Declared
from ncsnx.config.variants import TAG, Config, saved_tag

CONFIG_VERSION = 1


ConfigError = StructureError
"""An invalid configuration, with every problem as (path, complaint) in `problems`."""


def to_json(declared: Declared) -> dict[str, Any]:
    """The saved form: `{"schema_version": 1, "experiment": {…}}`, or 'pretrained' in place of 'experiment'."""
    key = "experiment" if isinstance(declared, Experiment) else "pretrained"
    return {"schema_version": CONFIG_VERSION, key: unstructure(declared)}


def identity(declared: Declared) -> str:
    """sha256 (hexadecimal) of what determines the trained weights, and of a model from elsewhere its network.

    Computed from the canonical JSON after a round trip, so that 1 and 1.0 count as the same float.
    """
    return digest(identifying_values(structure(unstructure(declared), type(declared))))


def identifying_paths(declared: Declared) -> set[str]:
    """The dotted paths of all values that are part of the identity."""
    return {path for path, _ in flatten(identifying_values(declared))}


def flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values as (dotted path, value) rows; the path of a variant itself has its tag."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else key
        if key == TAG:
            rows.insert(0, (prefix, value))
        elif isinstance(value, dict):
            rows.extend(flatten(value, path))
        else:
            rows.append((path, value))
    return rows


def identifying_values(config: Config) -> dict[str, Any]:
    """The JSON values of a configuration object that are part of the identity, variants with their tag under 'type'."""
    values: dict[str, Any] = {}
    if (tag := saved_tag(type(config))) is not None:
        values[TAG] = tag
    for field in attrs.fields(type(config)):
        value = getattr(config, field.name)
        inside = field.metadata.get("identity", True)
        if not (inside(config) if callable(inside) else inside):
            continue
        if "outside_identity_at_default" in field.metadata and is_default(field, value):
            continue
        values[field.name] = identifying_values(value) if isinstance(value, Config) else unstructure(value)
    return values


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces. Raises ValueError for NaN and infinities, TypeError for non-JSON."""
    return _ENCODER.encode(value).encode("utf-8")


def digest(value: Any) -> str:
    """sha256 of the canonical bytes, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


class _Absent(Enum):
    ABSENT = "absent"


ABSENT = _Absent.ABSENT
"""Placeholder for a value that an experiment doesn't have; also the same after pickling."""


@attrs.frozen
class Difference:
    """A value that differs between two experiments."""

    path: str
    """Dotted path of the value."""
    first: Any
    second: Any
    identity: bool
    """Whether the value determines the trained weights."""

    def __str__(self) -> str:
        return f"{self.path}: {shown(self.first)} → {shown(self.second)}"


def differences(first: Declared, second: Declared) -> list[Difference]:
    """Every value that differs, in the order of the fields; ABSENT for a value that only one experiment has."""
    return [Difference(path, ours, theirs, identity) for path, (ours, theirs), identity in differing(first, second)]


def differing(*experiments: Declared) -> list[tuple[str, list[Any], bool]]:
    """(path, value in each experiment, whether it determines the trained weights) as in `differences`."""
    columns = [dict(flatten(unstructure(one))) for one in experiments]
    identifying = set[str]().union(*map(identifying_paths, experiments))
    paths = dict.fromkeys(path for column in columns for path in column)
    rows = ((path, [column.get(path, ABSENT) for column in columns], path in identifying) for path in paths)
    return [(path, values, identity) for path, values, identity in rows if any(one != values[0] for one in values)]


def shown(value: Any) -> str:
    """A value as it is typed on the command line: none, true, 50000, 1e-05, adam; — for ABSENT."""
    if value is ABSENT:
        return "—"
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
