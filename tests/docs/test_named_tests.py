"""Tests that the site names exist."""

import ast
import re

from tests.docs.blocks import PAGES, ROOT

_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_a_test_that_a_page_names_exists() -> None:
    named = {found for page in PAGES for found in _NAMED.findall(page.read_text(encoding="utf-8"))}
    assert len(named) >= 16  # the table of the page on testing
    for file, name in named:
        functions = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        assert not name or name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}, (file, name)
