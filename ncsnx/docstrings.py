"""The strings that stand under the fields of classes: help of the command line, of Python and of the configuration."""

import ast
import inspect
import sys
from functools import cache


def field_docstring(cls: type, name: str) -> str:
    """The string that stands under a field in the source; empty where there is none, or no source."""
    owner = next((base for base in cls.__mro__ if name in vars(base).get("__annotations__", {})), None)
    return "" if owner is None else _docstrings(owner.__module__).get((owner.__qualname__, name), "")


@cache
def _docstrings(module: str) -> dict[tuple[str, str], str]:
    """(class, field) → docstring, for the classes of a module."""
    found: dict[tuple[str, str], str] = {}
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, SyntaxError):  # installed without its source
        return found
    for body in ast.walk(tree):
        if isinstance(body, ast.ClassDef):
            for node, after in zip(body.body, body.body[1:], strict=False):
                match node, after:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        found[body.name, name] = inspect.cleandoc(text)
    return found
