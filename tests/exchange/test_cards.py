"""Model cards have the Hub's metadata, the facts and the scores of these weights, and show text of others inert."""

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ncsnx.config import ConsistentAnnealed, Experiment, Images
from ncsnx.config.discovery import resolve
from ncsnx.errors import UsageError, printable
from ncsnx.evaluation.reference import PerfectModel
from ncsnx.exchange.card import CardScore, Picture, ScoreValue, card, check_license, text
from ncsnx.exchange.exporting import recorded_scores
from ncsnx.quantities import with_error
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger, MeasurementProtocol, Quantity, Series
from tests.config.examples import minimal
from tests.runs.kept import subject
from tests.runs.test_exports import HASH, config_of
from tests.spaces import space_of

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = [
    "<script>alert(1)</script>",
    "![pixel](https://evil.example/pixel.png)",
    "| `code` ``` ~~~ **bold** ~~gone~~ &lt;b&gt; |",
    "\n\n# heading\n\n---\nlicense: evil\n---\n",
    "a\r\n- item\u2028\u202eback\x1b[2J\x00",
    "\\*a\\*",
    "</details></table>",
    "1. item",
    "    code",
]


def card_of(experiment: Experiment | None = None, **changes: object) -> str:
    given: dict[str, object] = {"parameters": 1_234, "evaluations": "121 evaluations"}
    config = attrs.evolve(config_of(experiment), license=changes.pop("license", "mit"))
    return card(config, **(given | changes))  # type: ignore[arg-type]


def test_a_sampler_that_draws_another_distribution_says_so() -> None:
    _, body = front_and_body(card_of(attrs.evolve(minimal(), sampler=ConsistentAnnealed(order=1))))
    assert "Known bias: sampler=cas with order=1" in body.replace("\\", "")
    assert "gives Gaussian data 50 % of its variance" in body
    assert "Known bias" not in card_of(attrs.evolve(minimal(), sampler=ConsistentAnnealed()))
    from_data = attrs.evolve(minimal().sampler, data_init=True)
    assert "starts from training images" in card_of(attrs.evolve(minimal(), sampler=from_data))


@pytest.mark.parametrize(
    ("name", "cited", "is_langevin"),
    [
        ("cifar10", ["2006.09011", "1907.05600"], True),
        ("cifar10_ncsn", ["1907.05600"], True),
        ("cifar10_edm", ["2206.00364", "2011.13456", "1907.05600"], False),
    ],
)
def test_a_card_cites_the_papers_of_what_the_model_is(name: str, cited: list[str], is_langevin: bool) -> None:
    front, body = front_and_body(card_of(resolve(name).experiment))
    assert re.findall(r"\(https://arxiv.org/abs/([0-9.]+)\)", body) == cited
    assert ('"langevin-dynamics"' in "".join(front)) is is_langevin


def test_the_code_of_a_card_gives_each_image_its_class() -> None:
    edm = resolve("cifar10_edm").experiment
    conditional = attrs.evolve(edm, model=attrs.evolve(edm.model, classes=10))
    assert "noise_levels[0], cond=model.inputs(0, torch.arange(16)))" in card_of(conditional)
    assert "cond" not in card_of(edm).partition("```python")[2].partition("```")[0]


def front_and_body(written: str) -> tuple[list[str], str]:
    """The lines of the metadata, and the Markdown that follows."""
    start, front, body = written.split("---\n", 2)
    assert start == ""
    return front.splitlines(), body


def tokens(body: str) -> list[Token]:
    """Block and inline tokens in one list."""
    return [inner for token in MARKDOWN.parse(body) for inner in (token, *(token.children or []))]


def structure(body: str) -> list[tuple[str, str]]:
    """The structure that a Markdown parser finds (blocks, links, code, HTML), without text."""
    return [
        (token.type, token.content if token.type in ("html_block", "html_inline", "code_inline") else "")
        for token in tokens(body)
        if token.type not in ("text", "text_special", "inline", "fence")
    ]


def shown(body: str) -> str:
    """The text that a reader sees, without code blocks."""
    return "".join(token.content for token in tokens(body) if token.type in ("text", "text_special", "code_inline"))


def hostile_score(words: str) -> CardScore:
    return CardScore((ScoreValue(words, 1.0),), words, {words: [words], "n": 5})


def test_the_card_says_what_the_model_is_and_where_it_comes_from() -> None:
    experiment = attrs.evolve(minimal(), note="trained for a talk")
    said = shown(front_and_body(card_of(experiment))[1])
    for expected in (
        "ncsnv2, 1,234 parameters",
        "images of 8×8 pixels with 1 channel",
        "Sampling takes 121 evaluations per image",
        "EMA weights (moving average with rate 0.999) of step 12",
        "trained for a talk",
        "schedule.sigma_max5.0",
        "f" * 64,
        HASH,
        "No scores were recorded for these weights.",
    ):
        assert expected in said
    raw = attrs.evolve(config_of(attrs.evolve(minimal(), ema=None)), weights="raw")
    assert "raw weights (no EMA)" in card(raw, parameters=1, evaluations="1 evaluation")


def test_the_model_index_has_the_scores_with_their_protocols_as_the_hub_reads_them() -> None:
    hub = pytest.importorskip("huggingface_hub")
    measured = (
        ScoreValue("FID", 8.25, 0.5, "fid"),
        ScoreValue("FID of a perfect model", 1.0),
        ScoreValue("KID", 1e-05, None, "kid"),
    )
    protocol = {"n": 10_000, "sampler": {"type": "ald"}, "evaluations": 121}
    short = "(10,000 images, ald, 121 evaluations)"
    likelihood = ScoreValue("bits per dimension", 3e30, 1e-9, "bits_per_dimension")
    scores = (CardScore(measured, "10,000 images", protocol), CardScore((likelihood,), "exact", {}))
    data = hub.ModelCard(card_of(scores=scores), ignore_metadata_errors=False).data
    assert (data.license, data.library_name, data.model_name) == ("mit", "ncsnx", "minimal")
    assert [(one.metric_type, one.metric_value, one.metric_name, one.metric_args) for one in data.eval_results] == [
        ("fid", 8.25, f"FID {short}", {"standard_error": 0.5, "protocol": "10,000 images"}),
        ("kid", 1e-05, f"KID {short}", {"protocol": "10,000 images"}),
        ("bits_per_dimension", 3e30, "bits per dimension", {"standard_error": 1e-9, "protocol": "exact"}),
    ]
    (one, *_) = data.eval_results
    task = "unconditional-image-generation"
    assert (one.task_type, one.dataset_type, one.dataset_name) == (task, "digits", "digits 8×8")
    assert (data.pipeline_tag, "ncsnv2" in data.tags) == (task, True)
    assert one.dataset_args == {"fingerprint": "f" * 64}
    assert hub.repocard_data.eval_results_to_model_index("minimal", data.eval_results) == data.to_dict()["model-index"]


@pytest.mark.parametrize(
    "words", [*HOSTILE[3:5], "ünï \U0001f600", "\ud800\x7f\x85", '": 1e-05', "a: b # c", "'\"", "%TAG ! x"]
)
def test_no_text_of_other_people_ends_a_value_of_the_model_index(words: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    scores = (CardScore((ScoreValue(words, 1.0, None, "fid"),), words, {"sampler": {"type": words}, "n": True}),)
    front, _ = front_and_body(card_of(scores=scores).replace("# minimal", "# m"))
    data = hub.ModelCard("---\n" + "\n".join(front) + "\n---\n", ignore_metadata_errors=False).data
    (one,) = data.eval_results
    assert one.metric_args == {"protocol": printable(words)}
    assert data.license == "mit"


def test_a_licence_that_nobody_named_is_unknown_and_said_to_be() -> None:
    front, body = front_and_body(card(config_of(), parameters=1, evaluations="1 evaluation"))
    assert 'license: "unknown"' in front
    assert "samples.png" not in body
    assert "![9 samples](samples.png)" in card_of(picture=Picture(images=9, seed=0, png=b""))
    assert "license of these weights is not known" in body
    assert "license of these weights is not known" not in card_of(license="cc-by-nc-4.0")


@pytest.mark.parametrize("license", ["MIT", "mit\nlicense: x", "1.0", "m", "x" * 100])
def test_a_licence_that_is_no_identifier_is_refused(license: str) -> None:
    with pytest.raises(UsageError, match=r"^license .*: expected an identifier"):
        check_license(license)


@given(st.text() | st.text(st.sampled_from("<>[]()!`*_~|\\&#$:.@-=+ \n\tawx1/\"'")))
@example("www.evil.example")
def test_any_text_is_shown_as_it_is_and_is_nothing_but_text(words: str) -> None:
    for frame in ("before {} after", "| a | b |\n|---|---|\n| {} | c |"):
        assert structure(frame.format(text(words))) == structure(frame.format("harmless"))
    if words.isprintable() and words.strip() == words:
        assert shown(f"before {text(words)} after") == f"before {words} after"


def test_addresses_are_broken_and_plain_words_stay_readable() -> None:
    """Some renderers turn bare addresses into links, although Markdown's own rules don't."""
    assert text("https://evil.example :smile: @somebody") == r"https\://evil\.example \:smile: \@somebody"
    plain = "8.21 ± 0.30 (of 1,000 images); seed: 0, 1e-05"
    assert text(plain) == plain


@pytest.mark.parametrize("words", HOSTILE)
def test_what_somebody_wrote_into_a_run_stays_inert_in_the_card(words: str) -> None:
    printable = "".join(character for character in words if character.isprintable())

    def written(words: str) -> tuple[list[str], str]:
        experiment = attrs.evolve(minimal(), note=words, data=Images(root=words.replace("/", ""), image_size=8))
        return front_and_body(card_of(experiment, scores=(hostile_score(words),)))

    front, body = written(printable)
    harmless_front, harmless_body = written("harmless")
    assert front == harmless_front
    assert structure(body) == structure(harmless_body)
    front, body = front_and_body(card_of(scores=(hostile_score(words),)))
    assert structure(body) == structure(front_and_body(card_of(scores=(hostile_score("harmless"),)))[1])


OWN = "a" * 64


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", "one", minimal(), {}, None, "f" * 64, space_of(minimal().data))


def add(run: Run, measure: str, metric: str, values: dict[str, Any], n: int = 100, **others: Any) -> None:
    words = {"": f"{n} images", "reference": "folder /home/ada/scans", "perfect model": "1"}
    columns = {
        "fid": (
            Quantity("score", metric, error="error", identifier="fid"),
            Quantity("kernel_distance", "KD", identifier="kid"),
            Quantity("recall", identifier="recall", metric="precision-recall"),
            Quantity("evaluations"),
        )
    }.get(measure, (Quantity("score", metric, error="error", identifier=measure),))
    perfect = PerfectModel(score=1.25, spread=0.125, n=100, reference_images=1_000, drawn=100, draws=5)
    protocol = MeasurementProtocol(
        measure=measure,
        facts={"n": n, "features": metric},
        metric=metric,
        words=words,
        columns=columns,
        perfect_model=perfect.to_json() if n == 1_000 else None,
    )
    one = attrs.evolve(subject(run, 10, OWN), **others)
    Ledger.read(run).add(protocol, one, {"score": 5.0, "evaluations": 5, **values}, {})


def test_the_numbers_of_every_series_of_these_weights_are_found_those_of_the_most_images_first(run: Run) -> None:
    add(run, "loss", "held-out loss", {"score": 12.5, "levels": [1.0]}, n=99_999)
    add(run, "likelihood", "bits per dimension", {"score": 2.5, "error": 0.25}, n=99_999)
    add(run, "fid", "FD (digits classifier 1a2b3c4d)", {"error": 0.25, "kernel_distance": 0.5}, n=100)
    covered = {"recall": 0.25, "metrics": {"precision-recall": 1}}
    add(run, "fid", "FID", {"error": 0.25, "kernel_distance": 0.5, **covered}, n=1_000)
    # scores of something else
    add(run, "fid", "FID", {}, weights_sha256="b" * 64)
    add(run, "fid", "FID", {}, step=20)
    add(run, "fid", "FID", {}, identity="c" * 64)
    found = recorded_scores(run, minimal(), 10, OWN)
    assert [
        tuple((one.name, with_error(one.value, one.error)) for one in score.measured) for score in found.scores
    ] == [
        (
            ("FID", "5.00 ± 0.25"),
            ("FID of a perfect model (100 real images against the rest)", "1.25 ± 0.12"),
            ("KD", "0.5000"),
            ("recall", "0.2500"),
        ),
        (("FD (digits classifier 1a2b3c4d)", "5.00 ± 0.25"), ("KD", "0.5000")),
        (("bits per dimension", "2.50 ± 0.25"),),
        (("held-out loss", "12.50"),),
    ]
    for score, n in zip(found.scores, (1000, 100, 99999, 99999), strict=True):
        assert score.caption.endswith(f"; {n} images; reference: folder scans; perfect model: 1")
        assert "/home/ada" not in str(score.protocol)
    assert (found.scores[0].protocol["n"], found.scores[0].protocol["evaluations"]) == (1_000, 5)
    assert found.unreadable == ()


def test_a_ledger_that_cannot_be_read_is_named(run: Run) -> None:
    add(run, "fid", "FID", {})
    run.ledger_path.write_text("{\n")
    found = recorded_scores(run, minimal(), 10, OWN)
    assert len(found.scores) == 0
    (line,) = found.unreadable
    assert "measurements.jsonl, line 1: expected a JSON object" in line


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("path", ["/home/ada/patients (2) (0123abcd)/scans", "../scans"])
def test_a_protocol_names_a_folder_without_its_path(run: Run, kind: str, path: str) -> None:
    protocol = MeasurementProtocol(measure="fid", facts={}, words={"": "10 images", "reference": f"{kind} {path}"})
    series = Series(run=run, protocol=protocol, subject=subject(run, 10, OWN))
    assert series.without_folders().caption.endswith(f"; 10 images; reference: {kind} scans")
    split = attrs.evolve(series, protocol=attrs.evolve(protocol, words={"reference": "digits, training images"}))
    assert split.without_folders() == split
