"""The model card of an export: a README in the Hugging Face Hub's format, with YAML metadata at the top.

Names, notes and captions may come from other people. In the card they are plain text, never markup, HTML or metadata.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ncsnx.config.codec import flatten, identity, shown
from ncsnx.config.converter import unstructure
from ncsnx.config.experiment import Experiment
from ncsnx.config.model import Deepinv
from ncsnx.config.pretrained import Declared, Pretrained
from ncsnx.config.variants import tag_of
from ncsnx.errors import UsageError, printable, shortened
from ncsnx.exports.exported import CONFIG, MODEL, PICTURE, PLACEHOLDER, ExportConfig
from ncsnx.model_spec import learns_scores
from ncsnx.quantities import counted, listed, with_error
from ncsnx.sampling.bias import bias_of, end_in_words
from ncsnx.space import Space
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.runs.checkpoint import ImportedFrom

UNKNOWN_LICENSE = "unknown"
TASK = "unconditional-image-generation"
"""The Hub's name of what a score model does without a condition."""

_LICENSE = re.compile("[a-z][a-z0-9.+-]{1,63}")
_WHOLE_MANTISSA = re.compile(r'((?<!\\)": -?\d+)e')
# Characters that can start Markdown, HTML or a formula, and dots and colons inside words, which can make links.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~&$!@^]|(?<=[^\W\d])\.(?=\S)|:(?=\S)")
_SECTIONS = (
    ("Data", ("data",)),
    ("Network and noise levels", ("model", "schedule", "ends", "sigma_data", "labels")),
    ("Training", ("optimizer", "loss", "augmentation", "ema", "batch_size", "accumulation", "warmup_steps", "decay",
                  "clip_norm", "precision", "seed", "steps")),
    ("Sampler", ("sampler",)),
)  # fmt: skip


@attrs.frozen
class ScoreValue:
    """One number of a sweep's row."""

    name: str
    """Name of the score, such as FID."""
    value: float
    error: float | None = None
    """Standard error, if estimated; for a perfect model, the standard deviation over draws."""
    identifier: str | None = None
    """Identifier of the score in a model-index, such as fid; None for a number that isn't a score of the model."""


@attrs.frozen
class CardScore:
    """The model's scores from one sweep."""

    measured: tuple[ScoreValue, ...]
    caption: str
    """The protocol in words."""
    protocol: Mapping[str, Any]
    """The full protocol, as JSON."""


@attrs.frozen(kw_only=True)
class Picture:
    """The grid of samples beside the card: the first images of a seed."""

    images: int
    seed: int
    png: bytes
    precision: str = ""
    """', in bf16' for a precision other than fp32."""


def check_license(text: str) -> str:
    """Returns `text` if it can be a license identifier on the Hub, else raises UsageError."""
    if _LICENSE.fullmatch(text):
        return text
    raise UsageError(
        f"{parameter('license')} {text[:80]!a}: expected an identifier from the Hub's list, such as mit, apache-2.0 or "
        "cc-by-4.0"
    )


def card(
    config: ExportConfig,
    *,
    parameters: int,
    evaluations: str,
    scores: Sequence[CardScore] = (),
    picture: Picture | None = None,
    imported: "ImportedFrom | None" = None,
) -> str:
    """The card, in Markdown. parameters: number of the network's parameters. evaluations: NFE per image, in words.

    imported: the published checkpoint that the weights come from, directly or by further training.
    """
    declared = config.declared
    paragraphs = [
        *_front(config, scores),
        f"# {text(declared.name)}",
        _summary(config, parameters, evaluations),
        *([f"Note: {text(declared.note)}"] if declared.note else []),
        *(_sample_grid(picture, config.space) if picture else []),
        *_usage(declared, config.space),
        *_scores(scores, half=config.half),
        *_settings(declared, config.space),
        *_origin(config, imported),
        *_citations(declared),
    ]
    return "\n\n".join(paragraphs) + "\n"


def text(value: str) -> str:
    """Any text as one line of Markdown: markup is escaped, unprintable characters become escape sequences."""
    return _MARKUP.sub(r"\\\g<0>", printable(value))


def _front(config: ExportConfig, scores: Sequence[CardScore]) -> Iterator[str]:
    """The metadata, as JSON, which is YAML; but YAML 1.1 takes 1e-05 for text."""
    declared, data = config.declared, config.declared.data
    network = tag_of(type(declared.model)) or ""
    method = "langevin-dynamics" if tag_of(type(declared.sampler)) in ("ald", "pc") else None
    tags = ["ncsnx", "score-based-generative-modeling", *filter(None, [method, network])]
    values: dict[str, Any] = {"license": config.license, "library_name": "ncsnx", "pipeline_tag": TASK, "tags": tags}
    if metrics := [_metric(one, score) for score in scores for one in score.measured if one.identifier is not None]:
        kind = "unknown" if data is None else tag_of(type(data)) or "unknown"
        category, pixels = getattr(data, "category", None), "×".join(map(str, config.space.shape[1:]))
        title = " ".join([kind, *filter(None, [category]), pixels])
        dataset = {"type": kind, "name": title, "args": {"fingerprint": config.data_fingerprint}}
        results = [{"task": {"type": TASK}, "dataset": dataset, "metrics": metrics}]
        values["model-index"] = [{"name": declared.name, "results": results}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    yield "\n".join(["---", *(_WHOLE_MANTISSA.sub(r"\1.0e", line) for line in lines), "---"])


def _metric(one: ScoreValue, score: CardScore) -> dict[str, Any]:
    """A score as the Hub reads it."""
    sampler, count, images = (score.protocol.get(key) for key in ("sampler", "evaluations", "n"))
    facts = [counted(images, "image")] if isinstance(images, int) else []
    facts += [sampler["type"]] if isinstance(sampler, dict) and "type" in sampler else []
    facts += [counted(count, "evaluation")] if isinstance(count, int) else []
    name = f"{one.name} ({', '.join(facts)})" if facts else one.name
    error = {} if one.error is None else {"standard_error": one.error}
    args = {**error, "protocol": printable(score.caption)}
    return {"type": one.identifier, "value": one.value, "name": printable(name), "args": args}


def _summary(config: ExportConfig, parameters: int, evaluations: str) -> str:
    declared = config.declared
    channels, height, width = config.space.shape
    network = text(tag_of(type(declared.model)) or type(declared.model).__name__)
    if isinstance(declared, Pretrained):
        step = "an unknown step" if declared.source.step is None else f"step {declared.source.step:,}"
        which = f"weights of {text(declared.source.address)}, of {step}"
    else:
        rate = "" if declared.ema is None else f" (moving average with rate {declared.ema.rate})"
        weights = f"EMA weights{rate}" if config.weights == "ema" else "raw weights (no EMA)"
        which = f"{weights} of step {config.step:,}"
    kind = "noise-conditional score network" if learns_scores(declared) else "network tuned for consistency"
    return (
        f"A {kind} ({network}, {counted(parameters, 'parameter')}) "
        f"{_purpose(declared, config.space)} images of {height}×{width} pixels with {counted(channels, 'channel')}. "
        f"Sampling takes {evaluations} per image. These are the {which}."
    )


def _purpose(declared: Declared, space: Space) -> str:
    """The purpose of a network, as a clause before its images."""
    if isinstance(declared.model, Deepinv) and declared.schedule.sigma_max < 1:
        return "that denoises"
    if count := declared.model.classes:
        names = listed([text(name) for name in space.class_names])
        return f"that generates, by {counted(count, 'class')}{f' ({names})' if names else ''},"
    return "that unconditionally generates"


def _sample_grid(picture: Picture, space: Space) -> Iterator[str]:

    yield f"![{counted(picture.images, 'sample')}]({PICTURE})"
    images = f"images 0 to {picture.images - 1} of seed {picture.seed}"
    window = "" if space.bounded else f" Black to white: {space.pictures}."
    yield f"Uncurated samples: {images}, drawn by the sampler below{picture.precision}.{window}"


def _usage(declared: Declared, space: Space) -> Iterator[str]:
    channels, height, width = space.shape
    values = "in [0, 1]" if space.bounded else "in the data's own values"
    has_classes = declared.model.classes > 0
    imports = "import torch\n\nimport ncsnx" if has_classes else "import ncsnx"
    cond = ", cond=model.inputs(0, torch.arange(16))" if has_classes else ""
    found = "score = model.score" if learns_scores(declared) else "ends = model.denoise"
    yield "## Use"
    yield f"With ncsnx installed, in Python; for `{PLACEHOLDER}`, the address `hf://USER/MODEL` on the Hub will do too:"
    yield (
        "```python\n"
        f"{imports}\n\n"
        f'model = ncsnx.load("{PLACEHOLDER}")\n'
        f"images = ncsnx.draw(model, n=16, seed=0)  # (16, {channels}, {height}, {width}), {values}\n"
        "x = model.to_network(images)  # in the network's range, on its device\n"
        f"{found}(x, sigma=model.network.noise_levels[0]{cond})\n"
        "```"
    )
    yield "On the command line, which writes PNGs, a grid and the tensors to `./samples`:"
    yield f"```sh\nncsnx sample {PLACEHOLDER} --n 16 --seed 0\n```"
    yield (
        "Image *i* depends only on the model, the sampler, the seed and *i*. "
        f"`{MODEL}` is plain safetensors and `{CONFIG}` plain JSON; loading them executes no code. Changed or "
        "truncated copies are refused."
    )
    if getattr(declared.sampler, "data_init", False):
        yield (
            "The sampler starts from training images, which are not in this folder. "
            f"`ncsnx sample {PLACEHOLDER} --data DIR` says where they are; `sampler.data_init=false` starts from noise."
        )


def _scores(scores: Sequence[CardScore], *, half: bool) -> Iterator[str]:
    yield "## Scores"
    if half:
        yield "The weights here are rounded to float16. Scores and samples are of the unrounded ones."
    if not scores:
        yield "No scores were recorded for these weights."
        return
    yield (
        f"{'' if half else 'Measured on exactly these weights. '}Errors are standard errors; for a perfect model, the "
        "error is the standard deviation over draws of real images. Compare scores only if their protocols agree: "
        "number of images, features, reference and sampler."
    )
    for score in scores:
        yield _table("score", [(text(each.name), with_error(each.value, each.error)) for each in score.measured])
        if score.caption:
            yield f"Protocol: {text(score.caption)}."
        # ASCII, and each line begins with a bracket, a quote or a digit, so that none can end the code block
        protocol = json.dumps(score.protocol, indent=2)
        yield f"<details><summary>Full protocol</summary>\n\n```json\n{protocol}\n```\n\n</details>"


def _table(head: str, rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and values. head: title of the names."""
    return "\n".join([f"| {head} | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _settings(declared: Declared, space: Space) -> Iterator[str]:
    values = unstructure(declared)
    for title, fields in _SECTIONS:
        if isinstance(declared, Pretrained):
            title = {"Data": "Data that images are compared with", "Training": "Execution"}.get(title, title)
        if not (rows := flatten({field: values[field] for field in fields if values.get(field) is not None})):
            continue
        yield f"## {title}"
        if "sampler" in fields and (bias := bias_of(declared)):
            yield f"Known bias: {text(bias)}."
        if "sampler" in fields and (end := end_in_words(declared.sampler, space)):
            yield f"Noisy images: {text(end)}."
        yield _table("setting", [(f"`{path}`", text(shortened(shown(value)))) for path, value in rows])


def _origin(config: ExportConfig, imported: "ImportedFrom | None") -> Iterator[str]:
    fingerprint = "unknown" if config.data_fingerprint is None else text(config.data_fingerprint)
    rows = [
        ("run", text(config.run)),
        ("exported by", f"ncsnx {text(config.ncsnx_version)}"),
        ("identity (sha256)", identity(config.declared)),
        ("fingerprint of the training data", fingerprint),
        *_published_rows(config.declared),
        ("sha256 of the weights in the run", config.checkpoint_sha256),
        (f"sha256 of `{MODEL}`", config.model_sha256),
    ]
    if imported is not None:
        what = "imported from" if imported.step == config.step and not imported.is_start else "trained further from"
        rows.insert(0, (what, text(f"{imported.file}, step {imported.step:,}, sha256 {imported.sha256}")))
    yield "## Provenance"
    yield _table("field", rows)
    if imported is not None and not imported.is_start:
        until = "" if imported.step == config.step else f" up to step {imported.step:,}"
        yield (
            f"The weights{until} come from a checkpoint of the published implementation. Its file records neither the "
            "data nor the training settings; those above are of the experiment that it was imported as."
        )
    if config.license == UNKNOWN_LICENSE:
        yield "The license of these weights is not known; ask their authors."


def _published_rows(declared: Declared) -> Iterator[tuple[str, str]]:
    """Provenance of a model that was trained elsewhere."""
    if isinstance(declared, Experiment):
        return
    source = declared.source
    steps = "unknown" if source.step is None else f"{source.step:,}"
    yield "published as", text(f"{source.kind}: {source.address}, sha256 {source.sha256}, steps {steps}")
    yield from (
        (name, text(said)) for name, said in (("read with", source.made_with), ("remark", source.remark)) if said
    )


_PAPERS = {
    "2006.09011 ncsnv2 ncsnv2-deeper ncsnv2-deepest": "Song and Ermon, Improved Techniques for Training Score-Based "
    "Generative Models, NeurIPS 2020",
    "2206.00364 unet lognormal edm heun": "Karras et al., Elucidating the Design Space of Diffusion-Based Generative "
    "Models, NeurIPS 2022",
    "2011.13456 unet pc ode euler-ancestral": "Song et al., Score-Based Generative Modeling through Stochastic "
    "Differential Equations, ICLR 2021",
    "2009.05475 cas": "Jolicoeur-Martineau et al., Adversarial Score Matching and Improved Sampling, ICLR 2021",
    "2211.01095 dpmpp dpmpp-sde": "Lu et al., DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic "
    "Models, 2022",
    "2310.14189 consistency": "Song and Dhariwal, Improved Techniques for Training Consistency Models, ICLR 2024",
    "2406.14548 consistency": "Geng et al., Consistency Models Made Easy, ICLR 2025",
    "1907.05600": "Song and Ermon, Generative Modeling by Estimating Gradients of the Data Distribution, NeurIPS 2019",
}
"""arXiv number of a paper and the tags of what it introduced (none: all score networks) → the paper."""


def _citations(declared: Declared) -> Iterator[str]:
    """The papers of the network, its noise, its loss and the sampler."""
    values = dict(flatten(unstructure(declared)))
    used = {values.get(path) for path in ("model", "schedule", "loss", "loss.weighting", "sampler")}
    yield "## Citation"
    papers = ((key.split(), paper) for key, paper in _PAPERS.items())
    yield "\n".join(
        f"- {paper} ([arXiv {number}](https://arxiv.org/abs/{number}))"
        for (number, *tags), paper in papers
        if not tags or used.intersection(tags)
    )
