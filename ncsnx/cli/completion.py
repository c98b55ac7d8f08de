"""Completion of experiments, runs, checkpoints, fields and names in a shell, as Typer's `autocompletion`.

No experiment file is executed, and torch is imported for the names of metrics and trackers only.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pkgutil import resolve_name

import typer

from ncsnx.commands.command import Declaration

Candidates = Iterator[tuple[str, str]]
"""A word and a line about it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names that are offered: they mean nothing to a shell."""
_DECLARED = re.compile(r"""\bname\s*=\s*["']([A-Za-z0-9][A-Za-z0-9._-]*)["']""")
_LONGEST_TEXT = 60  # characters; zsh would break it
_STEP = re.compile(r"step-0*([0-9]+)")


def complete_experiment(incomplete: str) -> Candidates:
    """Names that stand in the files of experiments."""
    from ncsnx.config.discovery import built_in_folder, installed_files

    here = [Path("experiments"), Path(str(built_in_folder()))]
    files = [file for folder in here if folder.is_dir() for file in sorted(folder.glob("*.py")) if file.is_file()]
    files += [path for path in installed_files() if isinstance(path, Path)]
    names = [name for file in files for name in _DECLARED.findall(file.read_text(errors="replace"))]
    yield from ((name, "experiment") for name in dict.fromkeys(names))


def complete_run(ctx: typer.Context, incomplete: str) -> Candidates:
    """Names in the runs folder."""
    folder = _runs_folder(ctx)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _NAME.fullmatch(path.name) and (path / "config.json").exists():
            yield path.name, "run"


def complete_experiment_or_run(ctx: typer.Context, incomplete: str) -> Candidates:
    """Experiments, and runs as runs/NAME."""
    yield from complete_experiment(incomplete)
    yield from ((f"runs/{name}", text) for name, text in complete_run(ctx, incomplete))


def complete_step(ctx: typer.Context, incomplete: str) -> Candidates:
    """Steps of the run's checkpoints; in a range, after each colon."""
    begin, colon, _ = incomplete.rpartition(":")
    if not colon:
        yield from (("latest", "the newest"), ("best", "the best by its scores"), ("all", "every checkpoint"))
    run = str(ctx.params.get("run") or next(iter(ctx.args), ""))  # an option without its value ends the parsing
    folder = (Path(run) if "/" in run else _runs_folder(ctx) / run) / "checkpoints"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if step := _STEP.fullmatch(path.name):
            yield f"{begin}{colon}{step[1]}", "step"


def complete_field(incomplete: str, *roots: str) -> Candidates:
    """Fields, and after `=` their values. roots: first parts of their paths; none: all of an experiment."""
    from ncsnx.config.field_facts import all_facts, first_sentence

    path, prefix = _field_before(incomplete)
    words: dict[str, str] = {}
    for fact in all_facts():
        root = fact.path.partition(".")[0]
        if root not in roots if roots else root == "features":
            continue
        if path is None:
            # two words, so that the shell adds no space behind the common part
            words |= {f"{fact.path}={end}": first_sentence(fact.text)[:_LONGEST_TEXT] for end in ("", "?")}
        elif fact.path == path:
            words |= {f"{prefix}{value}": text[:_LONGEST_TEXT] for value, text in fact.values.items()}
    yield from words.items()


def complete_name(incomplete: str, names: Callable[[], Iterable[str]]) -> Candidates:
    """Names, also after a comma."""
    before, comma, _ = incomplete.rpartition(",")
    yield from ((f"{before}{comma}{name}", "") for name in names())


def completion_of(declared: Declaration) -> Callable[..., Candidates] | None:
    """The function that completes words of a parameter, if any does."""
    completions: dict[str, Callable[..., Candidates]] = {
        "experiment": complete_experiment,
        "experiment or run": complete_experiment_or_run,
        "run": complete_run,
        "step": complete_step,
        "field": lambda incomplete: complete_field(incomplete, *declared.roots),
    }
    if (kind := declared.complete) is None:
        return None
    names = _NAMES.get(kind)
    return completions[kind] if names is None else lambda incomplete: complete_name(incomplete, names)


def _tags_of(family: str) -> Iterable[str]:
    from ncsnx.config.variants import variants

    return variants(resolve_name(family))


_NAMES: dict[str, Callable[[], Iterable[str]]] = {  # what they import would slow down every command
    "column": lambda: resolve_name("ncsnx.runs.summaries:RUN_COLUMNS"),
    "device": lambda: ("auto", "cpu", "cuda", "mps"),
    "features": lambda: _tags_of("ncsnx.config.feature_networks:Features"),
    "metrics": lambda: (
        "all",
        *(one.tag for one in resolve_name("ncsnx.metrics.metric:all_metrics")() if one.on_request),
    ),
    "rule": lambda: ("auto", *resolve_name("ncsnx.inverse.rules.contract:rules")()),
    "samplers": lambda: ("all", *_tags_of("ncsnx.config.sampler:Sampler")),
    "trackers": lambda: resolve_name("ncsnx.tracking.tracker:all_trackers")()[0],
}


def _field_before(incomplete: str) -> tuple[str | None, str]:
    """The field whose value is to be completed, None for a field's name; and what the shell takes as part of the word.

    bash breaks words at `=`, other shells don't.
    """
    path, equals, _ = incomplete.partition("=")
    if equals and path:
        return path, f"{path}="
    words = os.environ.get("COMP_WORDS", "").split()
    if incomplete and len(words) > 2 and words[-1] == incomplete and words[-2] == "=":
        return words[-3], ""
    return None, ""


def _runs_folder(ctx: typer.Context) -> Path:
    return Path(ctx.params.get("runs") or os.environ.get("NCSNX_RUNS") or "runs")
