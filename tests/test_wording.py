"""Counts and measured values in messages go through the helpers of `ncsnx.quantities`, so that all read alike."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ncsnx

_PLURALS = (
    "(?:image|picture|step|checkpoint|level|trial|setting|seed|evaluation|byte|file|value|number|feature|tensor|"
    "parameter|time|sample|row|column|frame|alternative|thread|worker|probe|channel|name|state|line|record|character|"
    "weight|thing|neighbour|score|day|dimension|split|pair|member|input|archive|folder|experiment|problem|update|epoch|"
    "label|array|point|direction|device|sweep|finding|note)s|entries|probabilities|passes|losses|batches|classes|processes"
)
"""What is counted in messages."""
NO_COUNTS = ("weights", "shape", "form", "part", "channels", "width", "plan.ratio", "seconds / 86400")
"""Values before a plural that are names, the last part of A×B, or no whole numbers."""
_BETWEEN = r"(?:(?!(?:of|at|and|from|in|to|on|for|with|is|are|have|has|holds|takes|halves) )[a-z-]+ ){0,2}"
COUNTED = re.compile(f" {_BETWEEN}(?:{_PLURALS})(?![\\w/])")
"""What follows a value that is a count."""


def texts() -> Iterator[tuple[str, ast.JoinedStr]]:
    """(FILE:LINE, f-string) of the package."""
    root = Path(ncsnx.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield f"{path.relative_to(root)}:{node.lineno}", node


def is_count(value: ast.expr) -> bool:
    """Whether the value of an f-string may be a number."""
    return isinstance(value, ast.FormattedValue) and not (
        ast.unparse(value.value) in NO_COUNTS
        or (isinstance(value.value, ast.IfExp) and isinstance(value.value.body, ast.Constant))
        or (isinstance(value.value, ast.Call) and ast.unparse(value.value.func) == "counted")
    )


def test_no_count_stands_before_a_plural_that_is_written_by_hand() -> None:
    found = []
    for place, text in texts():
        for value, after in zip(text.values, text.values[1:], strict=False):
            if is_count(value) and isinstance(after, ast.Constant) and COUNTED.match(after.value):
                found.append(f"{place}: {ast.unparse(value)} {after.value[:40]!r}")
    assert found == []
