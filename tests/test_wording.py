"""The wording check finds house words and fragments, and accepts everything else."""

from pathlib import Path

import pytest

from tests.wording import HOUSE_WORDS, findings, in_page, in_python


def reasons(text: str, *, messages: bool = True) -> list[str]:
    return [finding.reason for finding in in_python(text, "module.py", messages=messages)]


def test_a_docstring_that_is_a_fragment_is_found_and_one_that_stands_alone_passes() -> None:
    told = "a docstring that begins with 'Of': write a sentence or a noun phrase"
    assert reasons('step = 1\n"""Of the checkpoint."""\n') == [told]
    assert reasons('step = 1\n"""Whether it is sound."""\n') == []


@pytest.mark.parametrize(
    "text", ["x = 1  # then it goes on", 'raise ValueError("it goes on")', '"""So it goes\n    on."""']
)
def test_a_house_word_is_found_in_comments_messages_and_across_lines(text: str) -> None:
    assert reasons(text) == ["'goes on': write resume, continue"]


def test_a_pattern_for_each_house_word_finds_it() -> None:
    written = (
        "go on; 3 evaluations an image; mend; and that isn't one; it is none; dear to make; "
        "a person's business; left the finite numbers; the pull; what was given; trials of survival; "
        "what goes; oftener; by what was timed; go together by; further from what was given; "
        "one image's doing; hold their places; the floor; anew; whoever; in the place of; in good order; "
        "whole or not at all; the own sampler; 3 there already; in the mean; surer; all is well; trained on from"
    )
    found = [finding.reason for finding in in_page(written, "page.md")]

    assert {reason.partition(": write ")[2] for reason in found} == set(HOUSE_WORDS.values())


def test_code_in_a_page_passes() -> None:
    page = "Write `go on`:\n\n    go on\n\n```\ngo on\n```\n\nand go on.\n"

    assert [(finding.line, finding.reason) for finding in in_page(page, "page.md")] == [
        (9, "'go on': write resume, continue")
    ]


def test_a_finding_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "ncsnx").mkdir()
    (tmp_path / "ncsnx" / "module.py").write_text('"""Fine."""\n\n# mend this\n')

    assert list(map(str, findings(tmp_path))) == ["ncsnx/module.py:3: 'mend': write fix"]
