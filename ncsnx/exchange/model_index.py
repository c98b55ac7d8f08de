"""The `model-index` of a model card: scores in the form that the Hugging Face Hub reads and shows.

It is YAML. Names and captions may come from other people, so every text is a double-quoted ASCII string.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from ncsnx.config.checks import shortened
from ncsnx.config.experiment import Experiment
from ncsnx.config.variants import tag_of
from ncsnx.quantities import counted

TASK = "unconditional-image-generation"
"""The Hub's name of what a score model does without a condition."""
_IDENTIFIER = re.compile("[a-z][a-z0-9_.-]{0,63}")
_LONGEST = 1_000


@attrs.frozen
class ScoreValue:
    """One number of a sweep's row."""

    name: str
    """Name of the score, such as FID."""
    value: float
    error: float | None = None
    """Standard error, if estimated; for a perfect model, the standard deviation over draws."""
    identifier: str | None = None
    """Identifier of the score in a model-index, such as fid; None for a number that isn't a score of the model."""


@attrs.frozen
class CardScore:
    """The model's scores from one sweep."""

    measured: tuple[ScoreValue, ...]
    caption: str
    """The protocol in words."""
    protocol: Mapping[str, Any]
    """The full protocol, as JSON."""


def model_index(experiment: Experiment, fingerprint: str | None, scores: Sequence[CardScore]) -> Iterator[str]:
    """The lines of the model-index; none without scores. fingerprint: that of the training data, if known."""
    metrics = [line for score in scores for each in score.measured for line in _metric(each, score)]
    if not metrics:
        return
    _, height, width = experiment.data.shape
    data = tag_of(type(experiment.data)) or "unknown"
    category = getattr(experiment.data, "category", None)
    title = " ".join([data, *([category] if isinstance(category, str) else []), f"{height}×{width}"])
    yield "model-index:"
    yield f"- name: {quoted_yaml(experiment.name)}"
    yield "  results:"
    yield "  - task:"
    yield f"      type: {TASK}"
    yield "    dataset:"
    yield f"      type: {quoted_yaml(data)}"
    yield f"      name: {quoted_yaml(title)}"
    if fingerprint is not None:
        yield "      args:"
        yield f"        fingerprint: {quoted_yaml(fingerprint)}"
    yield "    metrics:"
    yield from metrics


def _metric(each: ScoreValue, score: CardScore) -> Iterator[str]:
    if each.identifier is None or _IDENTIFIER.fullmatch(each.identifier) is None or not math.isfinite(each.value):
        return
    yield f"    - type: {quoted_yaml(each.identifier)}"
    yield f"      value: {_float(each.value)}"
    yield f"      name: {quoted_yaml(each.name + _short(score.protocol))}"
    yield "      args:"
    if each.error is not None and math.isfinite(each.error):
        yield f"        standard_error: {_float(each.error)}"
    yield f"        protocol: {quoted_yaml(score.caption)}"


def _short(protocol: Mapping[str, Any]) -> str:
    """The protocol in brief: ' (10,000 images, ald, 121 evaluations)'."""
    sampler, facts = protocol.get("sampler"), []
    if isinstance(n := protocol.get("n"), int):
        facts.append(counted(n, "image"))
    if isinstance(sampler, dict) and isinstance(tag := sampler.get("type"), str):
        facts.append(shortened(tag))
    if isinstance(count := protocol.get("evaluations"), int):
        facts.append(counted(count, "evaluation"))
    return f" ({', '.join(facts)})" if facts else ""


def quoted_yaml(text: str) -> str:
    """Any text as a double-quoted YAML string on one line; all but printable ASCII is escaped."""
    return '"' + "".join(map(_escaped, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if 32 <= code < 127:
        return f"\\{character}" if character in '"\\' else character
    if 0xD800 <= code < 0xE000:  # half a surrogate pair is no character
        return "\\uFFFD"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _float(value: float) -> str:
    """A finite number that every YAML parser reads as a float: YAML 1.1 takes 1e-05 for text."""
    mantissa, exponent, power = repr(float(value)).partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + exponent + power
