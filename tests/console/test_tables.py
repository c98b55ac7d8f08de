"""Tables: drawn on a terminal, aligned plain lines elsewhere."""

import pytest

from ncsnx.console.messages import Messages
from ncsnx.console.tables import table
from ncsnx.results import Column

from .programs import on_terminal, piped

PROGRAM = r"""
from ncsnx.console.messages import Messages
from ncsnx.console.tables import table
from ncsnx.results import Column
table(
    Messages(),
    [Column("run"), Column("FID", align="right"), Column("note")],
    [["digits", "10.87", ""], ["画像", "9.1", "[red]x[/red]"], ["\x1b[31mevil\n", "100", "last"]],
)
"""


def test_a_piped_table_is_aligned_plain_text() -> None:
    done = piped(PROGRAM, FORCE_COLOR="1")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "run               FID  note",
        "digits          10.87",
        "画像              9.1  [red]x[/red]",
        r"\x1b[31mevil\n    100  last",
    ]


def test_a_table_on_a_terminal_is_drawn_and_its_cells_stay_inert() -> None:
    text = on_terminal(PROGRAM, NO_COLOR="1").text
    assert "─" in text
    assert "[red]x[/red]" in text
    assert r"\x1b[31mevil\n" in text
    assert "\x1b" not in text


def test_a_narrow_terminal_leaves_columns_out_before_it_folds_the_widest() -> None:
    program = """
from ncsnx.console.messages import Messages
from ncsnx.console.tables import table
from ncsnx.results import Column
columns = [Column("run"), Column("size", left_out=1), Column("age", left_out=2), Column("protocol")]
table(Messages(), columns, [["width_128-lr_0.001", "22 MiB", "3 days", "classifier_of_the_digits.pt8"]])
"""
    titles = {"64": ["run", "size", "age", "protocol"], "60": ["run", "age", "protocol"], "40": ["run", "protocol"]}
    for width, expected in titles.items():
        head, _, *rows = on_terminal(program, NO_COLOR="1", COLUMNS=width).text.splitlines()
        assert head.split() == expected
        words = " ".join(rows).split()
        assert words[0] == "width_128-lr_0.001"
        assert "".join(words).endswith("classifier_of_the_digits.pt8")
        assert max(map(len, rows)) <= int(width)


def test_a_table_without_rows_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table(Messages(), [Column("run"), Column("steps", align="right")], [])
    assert capsys.readouterr().out == "run  steps\n"
