"""The page about runs, read with an HTML parser."""

import base64
import hashlib
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import attrs
import pytest
from PIL import Image

from ncsnx.report import embedded_pictures
from ncsnx.report.page import report_page
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.segments import append_segment
from tests.cli import command
from tests.runs.kept import score

HOSTILE = "<script>alert(1)</script> \"'> \x1b[31m \u202e & {{ 7*7 }}"
VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """A page: its elements with their attributes, its text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def png(size: int = 8, shade: int = 90) -> bytes:
    content = io.BytesIO()
    Image.new("L", (size, size), shade).save(content, format="PNG")
    return content.getvalue()


@pytest.fixture
def told(run: Run) -> Run:
    """A run with a history, metrics, three grids and scores."""
    append_segment(run, from_step=0, runtime={"device": "cpu"}, changes={}, note=HOSTILE)
    for step in (10, 20, 30):
        MetricsLog(run).append({"step": step, "loss": 40.0 / step, "lr": 1e-3})
        MetricsLog(run).append({"step": step, "held_out": 50.0 / step, "weights": "ema", "held_out_levels": {"0": 1.0}})
        run.snapshots.mkdir(exist_ok=True)
        (run.snapshots / f"step-{step:08d}.png").write_bytes(png(shade=step))
    score(run, {10: 3.0, 20: 2.0, 30: 1.0})
    return run


def other(run: Run, name: str = "other", steps: int = 77) -> Run:
    experiment = attrs.evolve(run.experiment(), steps=steps)
    return Run.create(run.path.parent, name, experiment, {}, None, "e" * 64)


def test_a_page_is_well_formed_and_a_function_of_the_folder(told: Run) -> None:
    page = Page(report_page([told]))

    assert page.open == []
    assert report_page([told]) == report_page([told])
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in page.elements}
    assert {f"#{attributes['id']}" for attributes in page.all("section")} <= {one["href"] for one in page.all("a")}


def test_a_page_runs_nothing_and_loads_nothing(told: Run) -> None:
    text = report_page([told])
    page = Page(text)

    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    addresses = [value for _, found in page.elements for key, value in found.items() if key in ("src", "href")]
    assert all(str(address).startswith(("data:", "#")) for address in addresses)
    assert not any(key == "style" or key.startswith("on") for _, found in page.elements for key in found)
    style = text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    sha256 = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(one["content"] for one in page.all("meta") if "http-equiv" in one)
    assert str(policy).startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{sha256}'")


def test_what_people_wrote_stays_text(told: Run) -> None:
    text = report_page([told])
    page = Page(text)

    assert "<script>alert(1)</script>" in page.text
    assert r"\x1b[31m" in page.text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in page.text


def test_what_a_run_lacks_is_left_out(run: Run) -> None:
    page = Page(report_page([run]))

    assert [one["id"] for one in page.all("section")] == ["summary", "configuration"]
    assert "small.py:9" in page.text


def test_curves_grids_and_scores_are_shown_with_their_words(told: Run) -> None:
    page = Page(report_page([told]))

    described = " ".join(str(one.get("aria-label")) for one in page.all("svg"))
    assert (
        "Training loss, of the raw weights: loss against training step. small: 3 values, from 4.000 at 10" in described
    )
    buttons = [one for one in page.all("input") if one["type"] == "radio"]
    assert len({one["name"] for one in buttons}) == 1
    assert ["checked" in one for one in buttons] == [False, False, True]
    labels = {one["for"] for one in page.all("label")}
    assert labels == {one["id"] for one in buttons}
    assert all(one["alt"] for one in page.all("img"))
    assert "30 (best)" in page.text


def test_a_long_curve_is_drawn_to_its_end(run: Run) -> None:
    for step in range(1, 1501):
        MetricsLog(run).append({"step": step, "loss": 100 / step + step % 7, "lr": 1e-3})
    longest = max((one["d"] or "" for one in Page(report_page([run])).all("path")), key=len)
    assert len(longest) > 4000
    assert re.fullmatch(r"M[-\d. ]+", longest)


def test_several_runs_stand_side_by_side_with_their_differences_first(told: Run) -> None:
    page = Page(report_page([told, other(told)]))

    assert page.all("section")[0]["id"] == "differences"
    table = page.text.split("Values that differ")[1].split("Summary")[0].split()
    at = table.index("steps")
    assert table[at + 1 : at + 4] == [str(told.experiment().steps), "77", "no"]
    assert "determined by different values or data" in page.text  # their fingerprints differ


def test_pictures_beyond_the_budget_are_left_out_and_counted(told: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_pictures.PictureBudget.__init__, "__defaults__", (2 * len(png()), 0))
    page = Page(report_page([told]))

    assert len(page.all("img")) < 3
    assert "left out, since a page holds" in page.text


@pytest.mark.parametrize("damage", [b"", b"{", b"[]\n", b'{"step": []}\n', b"\xff\xfe\n", b"null\n"])
def test_a_damaged_file_is_a_line_of_the_page(told: Run, damage: bytes) -> None:
    files = [path for path in told.path.rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl", ".png")]
    assert len(files) > 6
    for path in files:
        before = path.read_bytes()
        path.write_bytes(damage)
        page = Page(report_page([told]))
        path.write_bytes(before)
        assert page.open == []
        if damage == b"{" and path.suffix != ".jsonl":
            assert "What is not shown" in page.text
            assert path.name in page.text


@pytest.mark.parametrize("value", [None, [], {}, "text", 1e308, -1, 10**400, True], ids=lambda value: str(value)[:9])
def test_no_value_of_a_document_breaks_the_page(told: Run, value: object) -> None:
    for path in [*told.path.rglob("scores.json"), told.metrics_path, told.segments_path, told.origins_path]:
        before = path.read_bytes()
        lines = before.splitlines() if path.suffix == ".jsonl" else [before]
        for key in json.loads(lines[-1]):
            changed = json.dumps({**json.loads(lines[-1]), key: value})
            path.write_text(changed + "\n")
            assert Page(report_page([told])).open == []
        path.write_bytes(before)


def test_links_in_a_run_are_not_followed(told: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(16, 200))
    grid = told.snapshots / "step-00000010.png"
    grid.unlink()
    grid.symlink_to(secret)

    assert len(Page(report_page([told])).all("img")) == 2


def test_the_command_writes_the_page_with_the_verdict(told: Run, here: Path) -> None:
    shutil.copytree(told.path, here / "runs" / "mine")

    assert command.run("report", "mine").code == 0
    page = Page((here / "runs" / "mine" / "report.html").read_text("utf-8"))
    assert "ncsnx doctor mine" in page.text
    assert command.run("doctor", "mine").out.count("report.html") == 0
    assert command.run("report", "mine", "mine", "--out", "page.html", "--no-doctor").code == 0
    assert "Verification" not in (here / "page.html").read_text("utf-8")


def test_bad_calls_say_what_to_type(told: Run, here: Path) -> None:
    shutil.copytree(told.path, here / "runs" / "mine")

    folder = command.run("report", "mine", "--out", ".")
    assert folder.code == 2
    assert "--out report.html" in folder.err
    many = command.run("report", *["mine"] * 9)
    assert many.code == 2
    assert "8 runs at most, not 9" in many.err
    assert command.run("report", "missing").code == 2


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("NCSNX_RUNS", raising=False)
    return folder


def test_the_page_of_the_documentation_is_small_and_shows_everything() -> None:
    path = Path(__file__).parents[2] / "docs" / "static" / "digits-report.html"
    page = Page(path.read_text("utf-8"))

    assert path.stat().st_size < 2**20
    assert page.open == []
    shown = [one["id"] for one in page.all("section")]
    assert {"training", "snapshots", "scores", "losses", "likelihoods", "samplers", "neighbours", "tasks"} <= {*shown}
    assert "left-out" not in shown


def test_a_constant_learning_rate_has_no_curve(run: Run) -> None:
    for step in range(3):
        MetricsLog(run).append({"step": step, "loss": 3.0, "lr": 1e-3})
    assert "learning rate against" not in report_page([run])
    MetricsLog(run).append({"step": 3, "loss": 3.0, "lr": 5e-4})
    assert "learning rate against" in report_page([run])
