"""Text of names and rates for a terminal."""

import re

# C0 and C1 controls, line and paragraph separators, bidirectional marks and overrides, lone surrogates, and invisible
# characters: zero-width spaces, invisible operators, fillers, tags. These move the cursor, start a line, reorder their
# neighbours, can't be encoded, or make two names look the same. Joiners and variation selectors stay, since scripts
# and emoji need them.
UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


def visible(text: str, keep: str = "") -> str:
    r"""Text with unsafe characters as readable escapes (``\x1b``, ``\n``), except those in `keep`.

    Names of runs, files and experiments may come from other people, so they pass through here before they reach a
    terminal or a log.
    """

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        return character if character in keep else character.encode("unicode_escape").decode("ascii")

    return UNSAFE.sub(escape, text)


def rate(per_second: float) -> str:
    """A rate with three significant digits, without decimals from 100 on."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"
