"""Every configuration field has a docstring, which the reference of all fields prints."""

import ast
from collections.abc import Iterator
from pathlib import Path

import ncsnx.config


def fields(path: Path) -> Iterator[tuple[str, bool]]:
    """(CLASS.FIELD, whether a docstring follows) for the public fields of the configuration classes of a file."""
    for cls in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(cls, ast.ClassDef) and any("kw_only=True" in ast.unparse(made) for made in cls.decorator_list):
            for node, after in zip(cls.body, [*cls.body[1:], None], strict=True):
                if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
                    is_documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                    yield f"{cls.name}.{ast.unparse(node.target)}", is_documented


def test_every_field_has_a_docstring() -> None:
    package = Path(ncsnx.config.__file__).parent
    modules = ("data_sets", "experiment", "feature_networks", "model", "sampler", "training")
    found = dict(field for module in modules for field in fields(package / f"{module}.py"))
    assert len(found) > 70
    assert [name for name, is_documented in found.items() if not is_documented] == []
