"""Code blocks of README.md, CONTRIBUTING.md and the pages in docs/, and how each is to be tried.

`bash` is typed, without a prompt; so are indented blocks. `python` is Python. `text` is shown and never run, and so are
`toml`, `bibtex` and directives. An HTML comment before a block steers the test:

    <!-- not run: REASON -->     the block is checked, not run
    <!-- run with: ADDITION -->  each ncsnx command of the block gets these arguments too
    <!-- before: COMMAND -->     the command runs first
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "_build" not in path.parts
)
SHOWN = ("text", "toml", "bibtex")
"""Kinds of blocks that are never run."""
STEERING = re.compile(r"<!-- (not run|run with|before): (.*?) -->", re.S)
FILE = re.compile(r"`(\w+\.py)`:\s*$")
"""The end of a paragraph before a block that is a whole file."""
SEPARATORS = ("&&", "||", "|", ";", "&", "(", ")", "then", "do", "else")


@attrs.frozen
class Block:
    """A code block of a page."""

    page: Path
    line: int
    kind: str
    text: str
    not_run: str | None = None
    """Why it is not run."""
    run_with: str = ""
    before: str = ""
    file: str | None = None
    """The name under which it is saved, for a whole file."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Simple commands of a bash block, as words; without redirections, assignments and comments."""
        commands: list[list[str]] = [[]]
        for line in self.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
            lexer.whitespace_split = True
            words = list(lexer)
            commands.append([])
            while words:
                word = words.pop(0)
                if word in SEPARATORS:
                    commands.append([])
                elif word.strip("<>&") == "":
                    words = words[1:]
                elif commands[-1] or not re.match(r"\w+=", word):
                    commands[-1].append(word)
        return [command for command in commands if command]

    @property
    def ncsnx_commands(self) -> list[list[str]]:
        """The arguments of each ncsnx command of a bash block."""
        found = []
        for words in self.commands:
            words = words[1:] if words[0] in ("nohup", "time", "exec") else words
            if words and Path(words[0]).name == "ncsnx":
                found.append(words[1:])
        return found


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order; those of MyST's directives are none."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    steering: dict[str, str] = {}
    before = ""
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            steering |= dict(STEERING.findall(token.content))
        elif token.type in ("fence", "code_block"):
            kind = token.info.strip() if token.type == "fence" else "bash"
            if not kind.startswith("{") and not token.markup.startswith(":"):
                assert token.map is not None
                file = FILE.search(before)
                yield Block(
                    page,
                    token.map[0] + 1,
                    kind,
                    token.content,
                    steering.get("not run"),
                    " ".join(steering.get("run with", "").split()),
                    steering.get("before", ""),
                    file[1] if file else None,
                )
            steering, before = {}, ""
        elif token.type == "inline":
            steering, before = {}, token.content
