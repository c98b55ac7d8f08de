"""The page about runs, read with an HTML parser, and its renewal while a run trains."""

import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ncsnx.errors import NcsnxError
from ncsnx.reporting.report import RenewedReport, report_page
from ncsnx.reporting.report_parts import evenly_spread
from ncsnx.reporting.run_facts import address, draw_curve
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, Quantity
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.segments import append_segment
from tests.cli import command
from tests.runs.kept import fid, score, subject
from tests.training.tiny import CPU, training
from tests.training.tiny import command as tiny_command

MARKUP = "<script>alert(1)</script> \"'> & {names}"
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """A page: its elements with their attributes, its text, and whether every element is closed."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def captions(self) -> list[str | None]:
        return [one["alt"] for one in self.all("img")]


def png(shade: int = 90) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), shade).save(content, format="PNG")
    return content.getvalue()


@pytest.fixture
def told(run: Run) -> Run:
    """A run with a history, metrics, three grids and scores."""
    append_segment(run, from_step=0, runtime={"device": "cpu"}, changes={}, note=MARKUP)
    for step in (10, 20, 30):
        MetricsLog(run).append({"step": step, "loss": 40.0 / step, "lr": 1e-3})
        MetricsLog(run).append({"step": step, "held_out": 50.0 / step, "weights": "ema", "held_out_levels": {"0": 1.0}})
        run.snapshots.mkdir(exist_ok=True)
        (run.snapshots / f"step-{step:08d}.png").write_bytes(png(shade=step))
    score(run, {10: 3.0, 20: 2.0, 30: 1.0})
    return run


def test_a_page_shows_curves_grids_and_scores_and_runs_and_loads_nothing(told: Run) -> None:
    content = report_page(told)
    page = Page(content)

    assert page.open == []
    assert report_page(told) == content
    assert [f"#{one['id']}" for one in page.all("section")] == [one["href"] for one in page.all("a")]
    assert page.captions == [*("Training loss", "Held-out loss (EMA weights)"), *("Step 30", "Step 20", "Step 10")]
    assert re.search(r"30\s*1\.000\s*best", page.text)
    assert "ncsnx fid small" in page.text
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    addresses = [value for _, found in page.elements for key, value in found.items() if key in ("src", "href")]
    assert all(str(address).startswith(("data:", "#")) for address in addresses)
    assert b"url(" not in content
    assert b"@import" not in content
    assert MARKUP in page.text, "words of people stay text"


def test_parts_that_a_run_lacks_are_left_out(run: Run) -> None:
    page = Page(report_page(run))

    assert [one["id"] for one in page.all("section")] == ["summary", "configuration"]
    assert "small.py:9" in page.text


def test_losses_that_are_no_numbers_are_gaps(run: Run) -> None:
    MetricsLog(run).append({"step": 1, "held_out": float("nan"), "held_out_levels": {"0": float("inf")}})
    MetricsLog(run).append({"step": 2, "loss": 3.0, "lr": 1e-3})
    assert Page(report_page(run)).captions == ["Training loss"]


@pytest.mark.parametrize(("count", "most"), [(0, 4), (4, 4), (5, 4), (1_000, 16)])
def test_of_many_items_the_first_and_the_last_are_kept(count: int, most: int) -> None:
    found = evenly_spread(range(count), most)

    assert len(found) == min(count, most)
    assert found == sorted(set(found))
    assert not found or (found[0], found[-1]) == (0, count - 1)


def test_a_logarithmic_axis_is_labelled_in_plain_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, save = list[str](), Figure.savefig

    def saved(figure: Figure, *args: Any, **options: Any) -> None:
        save(figure, *args, **options)
        labels.extend(label.get_text() for label in figure.axes[0].get_yticklabels())

    monkeypatch.setattr(Figure, "savefig", saved)
    draw_curve([(step, 10.0**-step) for step in range(1, 5)], "learning rate")
    assert {"0.1", "0.001"} <= set(labels)
    assert not [label for label in labels if "$" in label]


def test_large_pictures_become_smaller() -> None:
    content = io.BytesIO()
    Image.effect_noise((2_000, 1_000), 100).save(content, format="PNG")
    assert address(content.getvalue(), "images").startswith("data:image/jpeg")
    assert len(address(content.getvalue(), "images")) < len(content.getvalue())


def test_a_picture_beyond_the_limit_of_pixels_is_an_error_that_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    Image.new("L", (30, 30)).save(content, format="PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # twice as many are an error
    with pytest.raises(NcsnxError, match="not a complete picture"):
        address(content.getvalue(), "images")


def test_a_damaged_file_is_a_line_of_the_page(told: Run) -> None:
    files = [path for path in told.path.rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl", ".png")]
    assert len(files) > 4
    for path in files:
        before = path.read_bytes()
        path.write_bytes(b"{\n")
        page = Page(report_page(told))
        path.write_bytes(before)
        assert page.open == []
        assert path.name in page.text.split("What is not shown")[-1]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"evaluations": 60}, "4 images from seed 0, step 30, EMA weights, sampler ald with 60 evaluations per image"),
        ({"evaluations": None}, "sampler ald with an adaptive number of evaluations per image"),
        ({"columns": 8}, "4 rows of 8 images from seed 0"),
        ({"precision": "bf16"}, "EMA weights in bf16, sampler ald"),
    ],
)
def test_samples_are_described_as_they_were_drawn(told: Run, facts: dict[str, Any], words: str) -> None:
    protocol = {"n": 4, "columns": 1, "seed": 0, "step": 30, "weights": "ema", "sampler": {"type": "ald"}, **facts}
    folder = told.samples / "one"
    folder.mkdir(parents=True)
    (folder / "protocol.json").write_text(json.dumps({"schema_version": 1, "complete": True, "made": {}, **protocol}))
    assert words in Page(report_page(told)).text


def test_the_command_writes_the_page_or_says_what_to_type(told: Run, here: Path) -> None:
    shutil.copytree(told.path, here / "runs" / "mine")

    assert command.run("report", "mine").code == 0
    page = Page((here / "runs" / "mine" / "report.html").read_bytes())
    assert "summary" in [one["id"] for one in page.all("section")]
    assert command.run("doctor", "mine").out.count("report.html") == 0
    assert command.run("report", "mine", "--out", "page.html").code == 0
    assert Page((here / "page.html").read_bytes()).open == []
    folder = command.run("report", "mine", "--out", ".")
    assert folder.code == 2
    assert "--out report.html" in folder.err
    assert command.run("report", "missing").code == 2


def test_samplers_and_neighbors_are_shown_with_the_whole_command(told: Run) -> None:
    made = {"command": "/bin/ncsnx compare digits --seeds 3 sampler.steps=9"}
    error = {"error": "error", "plus_minus": "standard deviation over seeds"}
    columns = (Quantity("score", "FD", **error), Quantity("evaluations", decimals=0))
    protocol = attrs.evolve(fid(), measure="compare", columns=columns)
    for seed, distance in enumerate((8.0, 9.0)):
        numbers = {"evaluations": 5, "score": distance, "broken": 0.0, "seconds": 0.1}
        Ledger.read(told).add(protocol, subject(told, 30, "a", seed=seed), numbers, made)
    (series,) = Ledger.read(told).series("compare")
    series.folder.mkdir(parents=True)
    (series.folder / "samplers.png").write_bytes(png())
    page = Page(report_page(told))

    assert "FD, measured" in page.captions
    assert re.search(r"steps_per_level=2\s*8\.50 ± 0\.71\s*5", page.text)
    assert "± standard deviation over seeds" in page.text
    assert "ncsnx compare digits --seeds 3 sampler.steps=9" in page.text


class Heard:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.steps: list[int] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def checkpoint(self, step: int, path: Path) -> None:
        self.steps.append(step)


def test_slow_renewals_are_rare(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written, heard = [1_000.0], list[float](), Heard()
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def write(run: Run) -> None:
        written.append(now[0])
        now[0] += 1  # a second allows the next renewal after 100

    with RenewedReport(run, heard, write) as observer:  # type: ignore[arg-type]
        for step in range(10, 60, 10):
            observer.checkpoint(step, run.path)
            now[0] += 40

    assert heard.steps == [10, 20, 30, 40, 50]
    assert written == [1_000, 1_121, 1_202], "two of five checkpoints, and the end"


def test_a_page_that_cannot_be_written_is_said_once(run: Run) -> None:
    heard = Heard()

    def fail(run: Run) -> None:
        raise NcsnxError("the disk is full")

    with RenewedReport(run, heard, fail) as observer:  # type: ignore[arg-type]
        observer.checkpoint(10, run.path)

    assert heard.warnings == ["no report: the disk is full; training continues without it"]


@pytest.mark.parametrize(
    ("words", "section"),
    [
        ("loss --range latest --passes 1", "held-out-losses"),
        ("likelihood --range latest --n 2 --tolerance 0.1", "likelihoods"),
        ("compare --samplers heun --evaluations 5 --n 10 --seeds 1 features.steps=9 features.width=8", "samplers"),
        ("neighbors --n 2 --features none", "neighbors"),
    ],
)
def test_a_command_that_measures_renews_the_page(workplace: Path, words: str, section: str) -> None:
    command, *options = words.split()
    tiny_command(command, "digits", *options, *CPU, folder=workplace).done()
    assert f'<section id="{section}">' in (workplace / "runs/digits/report.html").read_text()


def test_training_writes_the_page_unless_told_not_to(trained: Path, tmp_path: Path) -> None:
    assert tiny_command(*training(), folder=tmp_path).code == 0

    page = Page((trained / "runs/digits/report.html").read_bytes())
    assert "12 of 12" in page.text
    assert "Step 12" in page.captions
    assert not (tmp_path / "runs/digits/report.html").exists()
    with_page, without = (
        folder / "runs/digits/checkpoints/step-00000012/model.safetensors" for folder in (trained, tmp_path)
    )
    assert with_page.read_bytes() == without.read_bytes()


def test_the_page_of_the_documentation_is_small_and_shows_everything() -> None:
    path = Path(__file__).parents[2] / "docs" / "static" / "digits-report.html"
    page = Page(path.read_bytes())

    assert path.stat().st_size < 2**20
    assert page.open == []
    shown = {one["id"] for one in page.all("section")}
    assert shown >= {"training", "scores", "held-out-losses", "likelihoods", "samplers", "neighbors", "tasks"}
    assert "what-is-not-shown" not in shown
