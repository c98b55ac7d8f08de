"""Wording check: `python -m tests.wording` lists house words and fragments, as FILE:LINE.

It checks docstrings, comments and messages of the package, docstrings and comments of the tests, and the pages. Strings
of the tests are excluded, since they quote old formats and other programs.
"""

import ast
import bisect
import dataclasses
import io
import itertools
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ("ncsnx", "experiments", "tests", "docs")
PAGES = ("*.md", "docs/**/*.md")

HOUSE_WORDS = {
    r"\b(?:go(?:es)?|going|went|gone) on\b(?! top)": "resume, continue",
    r"\b(?:evaluations?|passes|seconds?|milliseconds|[mµ]?s|bytes|[KMG]i?B|bits|images|steps|kernels|scores?) an? "
    r"(?:image|step|pixel|second|evaluation|dimension|checkpoint|run|batch|level|row|picture)\b": "per image, per step",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bthat (?:isn't|aren't|is not) (?:one|any)\b": "invalid, not a valid …",
    r"\bit is none\b": "not a valid …",
    r"\bdear to\b": "expensive",
    r"\bperson's business\b": "user-facing error",
    r"\b(?:left|leaves?|leaving) the finite\b": "diverged, produced NaN or infinity",
    r"\b(?:a|the|of|without|this|each|its) pulls?\b(?! request)": "guidance, likelihood score",
    r"\bwhat (?:is|was|were) (?:known|given)\b": "measurement, observed",
    r"\btrials? of survival\b": "fault-injection tests",
    r"\bwhat (?:goes|stays)\b": "prune checkpoints",
    r"\boftener\b": "more often",
    r"\bby what was timed\b": "estimated from a quick timing",
    r"\bgo(?:es)? together by\b": "are matched by name",
    r"\bfrom what was given\b": "misfit",
    r"'s doing\b": "caused by",
    r"\bholds? (?:its|their) places?\b": "placeholder",
    r"(?<!noise )\bfloors?\b(?! of| \()": "noise floor, reference distance",
    r"\banew\b": "again, from the beginning",
    r"\bwhoever\b": "the user, another program",
    r"\bin the place of\b": "instead of",
    r"\bin good order\b": "cleanly",
    r"\bwhole or not at all\b": "atomically",
    r"\bthe own sampler\b": "the run's own sampler",
    r"\bthere already\b": "already exists, already imported",
    r"\bin the mean\b(?! of)": "on average",
    r"\bsurer\b": "more certain",
    r"\ball is well\b": "no damage found",
    r"\btrained? on from\b": "resumed from",
}
"""Patterns of house words, with the field's terms."""
FRAGMENT = re.compile(
    r"(?:Of|By|What|Whose|Who|Those|These|Them|They|Their|It|Its|That|With|Without|From|At|To|On|For|As|In|Into|Where"
    r"|And|But|Or|Never|Not|Only)\b"
)
"""Beginnings of docstrings that hardly ever stand alone."""


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A place with wrong wording."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


def findings(root: Path = ROOT) -> list[Finding]:
    """All findings in the sources and pages below `root`, sorted by place."""
    found: list[Finding] = []
    for source in SOURCES:
        for path in sorted((root / source).rglob("*.py")):
            name = str(path.relative_to(root))
            found += in_python(path.read_text(encoding="utf-8"), name, messages=not name.startswith("tests/"))
    for pattern in PAGES:
        for path in sorted(root.glob(pattern)):
            found += in_page(path.read_text(encoding="utf-8"), str(path.relative_to(root)))
    return sorted(set(found))


def in_page(text: str, path: str) -> Iterator[Finding]:
    """House words outside the code of a Markdown page."""
    prose = re.sub(
        r"^```.*?^```|^ {4}[^\n]*|`[^`\n]*`", lambda code: re.sub(r"[^\n]", " ", code[0]), text, flags=re.M | re.S
    )
    yield from _house_words(prose, path, 1)


def in_python(text: str, path: str, *, messages: bool) -> Iterator[Finding]:
    """Findings in docstrings and comments and, with `messages`, in all other strings."""
    tree = ast.parse(text)
    docstrings = {id(node.value): node.value for node in ast.walk(tree) if _is_docstring(node)}
    for node in docstrings.values():
        yield from _fragments(node.value, path, node.lineno)
        yield from _house_words(node.value, path, node.lineno)
    if path == "tests/wording.py":
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield from _house_words(token.string, path, token.start[0])
    if messages:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                if node.value.isidentifier():  # a key of a saved form, or a value of an option
                    continue
                yield from _house_words(node.value, path, node.lineno)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _fragments(text: str, path: str, line: int) -> Iterator[Finding]:
    first = text.strip().splitlines()[0] if text.strip() else ""
    if fragment := FRAGMENT.match(first):
        yield Finding(path, line, f"a docstring that begins with {fragment[0]!r}: write a sentence or a noun phrase")


def _house_words(text: str, path: str, line: int) -> Iterator[Finding]:
    words = list(re.finditer(r"\S+", text))
    starts = list(itertools.accumulate((len(word[0]) + 1 for word in words), initial=0))
    flat = " ".join(word[0] for word in words)  # so that a pattern is found across lines
    for pattern, terms in HOUSE_WORDS.items():
        for found in re.finditer(pattern, flat, re.I):
            first = words[bisect.bisect_right(starts, found.start()) - 1]
            where = line + text.count("\n", 0, first.start())
            yield Finding(path, where, f"{found[0]!r}: write {terms}")


def main() -> int:
    """Prints the findings; returns 1 if there are any, else 0."""
    found = findings()
    print(*found, sep="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
