"""Model cards have the Hub's metadata and the facts, and show text from other people without markup."""

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ncsnx.config import ConsistentAnnealed, Experiment, Images
from ncsnx.errors import UsageError, printable
from ncsnx.exchange.card import CardScore, Picture, ScoreValue, card, check_license, text
from tests.config.examples import every_variant, minimal
from tests.runs.test_exports import HASH, config_of

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![pixel](https://evil.example/pixel.png)",
    "<https://evil.example>",
    "| a | b |",
    "`code` ``` ~~~",
    "**bold** __bold__ ~~gone~~ $x^2$",
    "&lt;b&gt; &#60;b&#62;",
    "\n\n# heading\n\n---\nlicense: evil\n---\n",
    "a\r\n- item\u2028\u202eback\x1b[2J\x00",
    "\\",
    "\\*a\\*",
    "</details></table>",
    "---",
    "- item",
    "1. item",
    "    code",
]


def card_of(experiment: Experiment | None = None, **changes: object) -> str:
    given: dict[str, object] = {"parameters": 1_234, "evaluations": "121 evaluations", "license": "mit"}
    return card(config_of(experiment), **(given | changes))  # type: ignore[arg-type]


def test_a_sampler_that_draws_another_distribution_says_so() -> None:
    _, body = front_and_body(card_of(attrs.evolve(minimal(), sampler=ConsistentAnnealed(order=1))))
    assert "Known bias: sampler=cas with order=1" in body.replace("\\", "")
    assert "gives Gaussian data 50 % of its variance" in body
    assert "Known bias" not in card_of(attrs.evolve(minimal(), sampler=ConsistentAnnealed()))


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


def test_the_metadata_are_those_that_the_hub_reads() -> None:
    front, _ = front_and_body(card_of())
    assert front == [
        'license: "mit"',
        'library_name: "ncsnx"',
        'pipeline_tag: "unconditional-image-generation"',
        'tags: ["ncsnx", "score-based-generative-modeling", "langevin-dynamics", "ncsnv2"]',
    ]


def test_the_card_says_what_the_model_is_and_where_it_comes_from() -> None:
    experiment = attrs.evolve(minimal(), note="trained for a talk")
    said = shown(front_and_body(card_of(experiment))[1])
    for expected in (
        "minimal",
        "ncsnv2, 1,234 parameters",
        "images of 8×8 pixels with 1 channel",
        "Sampling takes 121 evaluations per image",
        "EMA weights (moving average with rate 0.999) of step 12",
        "trained for a talk",
        "schedule.sigma_max5.0",
        "optimizer.lr0.0001",
        "batch_size128",
        "f" * 64,
        HASH,
        "No scores were recorded for these weights.",
    ):
        assert expected in said
    raw = attrs.evolve(config_of(attrs.evolve(minimal(), ema=None)), weights="raw")
    assert "raw weights (no EMA)" in card(raw, parameters=1, evaluations="1 evaluation")


def test_scores_stand_with_their_protocol_in_words_and_in_full() -> None:
    measured = (ScoreValue("FID", 8.2061, 0.3004), ScoreValue("KID", 0.0021, 0.0004), ScoreValue("recall", 0.5))
    score = CardScore(measured, "10,000 images a checkpoint from seed 0", {"n": 10_000, "reference": {"kind": "split"}})
    written = card_of(scores=(score,))
    said = shown(front_and_body(written)[1])
    assert "FID8.21 ± 0.30" in said
    assert "recall0.5000" in said
    assert "Protocol: 10,000 images a checkpoint from seed 0." in said
    assert '```json\n{\n  "n": 10000,\n  "reference": {\n    "kind": "split"\n  }\n}\n```' in written


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
        (
            "fid",
            8.25,
            f"FID {short}",
            {"standard_error": 0.5, "protocol": "10,000 images"},
        ),
        ("kid", 1e-05, f"KID {short}", {"protocol": "10,000 images"}),
        ("bits_per_dimension", 3e30, "bits per dimension", {"standard_error": 1e-9, "protocol": "exact"}),
    ]
    (one, *_) = data.eval_results
    assert (one.task_type, one.dataset_type, one.dataset_name) == (
        "unconditional-image-generation",
        "digits",
        "digits 8×8",
    )
    assert one.dataset_args == {"fingerprint": "f" * 64}
    assert hub.repocard_data.eval_results_to_model_index("minimal", data.eval_results) == data.to_dict()["model-index"]


@pytest.mark.parametrize(
    "words", [*HOSTILE, "ünï \U0001f600", "\ud800\x7f\x85", '": 1e-05', "a: b # c", "'\"", "%TAG ! x"]
)
def test_no_text_of_other_people_ends_a_value_of_the_model_index(words: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    scores = (CardScore((ScoreValue(words, 1.0, None, "fid"),), words, {"sampler": {"type": words}, "n": True}),)
    front, _ = front_and_body(card_of(scores=scores).replace("# minimal", "# m"))
    data = hub.ModelCard("---\n" + "\n".join(front) + "\n---\n", ignore_metadata_errors=False).data
    (one,) = data.eval_results
    assert one.metric_args == {"protocol": printable(words)}
    assert data.license == "mit"


def test_the_picture_is_shown_where_there_is_one() -> None:
    assert "![9 samples](samples.png)" in card_of(picture=Picture(images=9, seed=0, png=b""))
    assert "samples.png" not in card_of()


def test_a_licence_that_nobody_named_is_unknown_and_said_to_be() -> None:
    front, body = front_and_body(card(config_of(), parameters=1, evaluations="1 evaluation"))
    assert 'license: "unknown"' in front
    assert "license of these weights is not known" in body
    assert "license of these weights is not known" not in card_of(license="cc-by-nc-4.0")


@pytest.mark.parametrize("license", ["", "MIT", "a b", "mit\nlicense: x", "1.0", "[mit]", "m", "x" * 100])
def test_a_licence_that_is_no_identifier_is_refused(license: str) -> None:
    with pytest.raises(UsageError, match=r"^license .*: expected an identifier"):
        check_license(license)


@pytest.mark.parametrize("case", every_variant())
def test_every_kind_of_experiment_has_a_card(case: str) -> None:
    experiment = every_variant()[case]
    front, body = front_and_body(card_of(experiment))
    assert len(front) == 4
    assert shown(body).startswith(experiment.name)


@given(st.text() | st.text(st.sampled_from("<>[]()!`*_~|\\&#$:.@-=+ \n\tawx1/\"'")))
@example("www.evil.example")
def test_any_text_is_shown_as_it_is_and_is_nothing_but_text(words: str) -> None:
    """The text has the structure of a harmless word and the same characters, both in a paragraph and in a table."""
    for frame in ("before {} after", "| a | b |\n|---|---|\n| {} | c |"):
        assert structure(frame.format(text(words))) == structure(frame.format("harmless"))
    if words.isprintable() and words.strip() == words:
        assert shown(f"before {text(words)} after") == f"before {words} after"


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("https://evil.example", r"https\://evil\.example"),
        ("www.evil.example", r"www\.evil\.example"),
        (":smile: @somebody", r"\:smile: \@somebody"),
        ("8.21 ± 0.30 (of 1,000 images); seed: 0, 1e-05", "8.21 ± 0.30 (of 1,000 images); seed: 0, 1e-05"),
    ],
)
def test_addresses_are_broken_and_plain_words_stay_readable(words: str, written: str) -> None:
    """Some renderers turn bare addresses into links, although Markdown's own rules don't."""
    assert text(words) == written


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
