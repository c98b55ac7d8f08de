"""The reference of the configuration has every variant and field, and says no range twice."""

import importlib
import re
from typing import Any

import attrs
import pytest

from ncsnx.config import Data, Experiment, Grid, Model, Optimizer, Sampler, Schedule
from ncsnx.config.variants import variants
from tests.docs.blocks import ROOT


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Name of a class → what the page says of it."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "extensions"))
    page = importlib.import_module("configuration_reference").markdown()
    parts = (part.partition("\n") for part in page.split(":::::{py:class} ")[1:])
    return {name.rpartition(".")[2]: text for name, _, text in parts}


@pytest.mark.parametrize("family", [Data, Schedule, Model, Optimizer, Sampler, Grid])
def test_every_field_of_every_variant_is_there(family: type[Any], sections: dict[str, str]) -> None:
    common = set(re.findall(r"{py:attribute} (\w+)", sections[family.__name__]))

    for variant in variants(family).values():
        if variant.__module__.startswith("ncsnx."):
            own = set(re.findall(r"{py:attribute} (\w+)", sections[variant.__name__]))
            assert own | common == {field.name for field in attrs.fields(variant)}


def test_a_field_says_its_default_and_whether_it_is_outside_the_identity(sections: dict[str, str]) -> None:
    fields = {text.split("\n")[0]: text for text in sections["Experiment"].split("{py:attribute} ")[1:]}

    assert set(fields) == {field.name for field in attrs.fields(Experiment)}
    assert ':value: "128"' in fields["batch_size"]
    assert ":value:" not in fields["steps"]
    outside = {name for name, text in fields.items() if "*Outside the identity.*" in text}
    assert outside == {field.name for field in attrs.fields(Experiment) if not field.metadata.get("identity", True)}


def test_a_range_that_the_docstring_has_is_not_repeated(sections: dict[str, str]) -> None:
    assert "1 to 1,000,000" in sections["Experiment"]
    assert "Accepted: between 1 and 1,000,000" not in "".join(sections.values())
