"""Answers what may follow the words on a command line. Nothing that a run or an experiment file contains is executed.

`ncsnx __complete SHELL WORD …` prints one candidate per line: the word, a tab, a line about it. The line `:files` asks
the shell for files. The last WORD is the one to complete.
"""

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names that are offered: they mean nothing to a shell."""
_STEP = re.compile(r"step-([0-9]{8,})")
_LARGEST = 2**20
_FILES = ":files"
_Candidate = tuple[str, str]


def print_completions(arguments: list[str]) -> None:
    """Prints the candidates for the words after the shell's name; nothing where anything fails."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (a line amid what is being typed helps nobody)
    try:
        shell, words = arguments[0], arguments[1:]
        if shell == "bash":
            words, cut = _of_bash(words)
        else:
            cut = 0
        found = {word: text for word, text in _candidates(words) if word == _FILES or word.startswith(words[-1])}
    except Exception:
        return
    lines = (word if word == _FILES else f"{word[cut:]}\t{_line(text)}" for word, text in found.items())
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _of_bash(words: list[str]) -> tuple[list[str], int]:
    """The words of bash's line up to the cursor, and the characters of the last that bash takes as typed."""
    import shlex

    line, breaks = words
    for closing in ("", "'", '"'):
        try:
            typed = shlex.split(line + closing)
            break
        except ValueError:
            continue
    if not line or line[-1].isspace():
        typed.append("")
    last = typed[-1]
    return typed[1:], max(last.rfind(mark) for mark in "=:" if mark in breaks) + 1 if breaks.strip() else 0


def _line(text: str) -> str:
    line = "".join(one if one.isprintable() else " " for one in text)
    return line if len(line) <= 72 else f"{line[:71]}…"


def _candidates(words: list[str]) -> Iterator[_Candidate]:
    from ncsnx.cli.completion.grammar import grammar

    known = grammar()
    *before, typed = words
    node = {
        "commands": known["commands"],
        "options": {"--help": ["", "Show help."], "--version": ["", "Print the version."]},
    }
    while node.get("commands") and before:
        node = node["commands"].get(before.pop(0))
        if node is None:
            return
    if node.get("commands"):
        yield from ((name, one["text"]) for name, one in node["commands"].items())
    arguments, given, value = _split(before, node["options"])
    if value is not None:
        yield from _values(value, typed, arguments, given)
    elif typed.startswith("-"):
        yield from ((name, one[1]) for name, one in node["options"].items())
    else:
        yield from _arguments(known, node, arguments, given, typed)


def _split(words: list[str], options: dict[str, Any]) -> tuple[list[str], dict[str, str], str | None]:
    """Arguments, options with their values, and the metavar of the option whose value is to be completed."""
    arguments, given, rest = [], dict[str, str](), iter(words)
    for word in rest:
        name, joined, value = word.partition("=")
        if not word.startswith("-"):
            arguments.append(word)
        elif name in options and options[name][0] and not joined:
            taken = next(rest, None)
            if taken is None:
                return arguments, given, f"{name} {options[name][0]}"
            given[name] = taken
        else:
            given[name] = value
    return arguments, given, None


def _values(value: str, typed: str, arguments: list[str], given: dict[str, str]) -> Iterator[_Candidate]:
    """Values of an option. value: its name and metavar."""
    name, _, metavar = value.partition(" ")
    run = _run(arguments[0], given) if arguments else None
    if metavar in ("STEP", "RANGE"):
        yield from _checkpoints(run, typed, metavar == "RANGE")
    elif name == "--device":
        yield from ((word, "") for word in ("auto", "cpu", "cuda", "mps"))
    elif name == "--precision":
        yield from ((word, "") for word in ("fp32", "tf32", "bf16"))
    elif re.search("DIR|FILE|PATH|PICTURE|FOLDER|ROOT|SET", metavar):
        yield _FILES, ""


def _arguments(
    known: dict[str, Any], node: dict[str, Any], arguments: list[str], given: dict[str, str], typed: str
) -> Iterator[_Candidate]:
    declared = node.get("arguments", [])
    if not declared:
        return
    metavar, many = declared[min(len(arguments), len(declared) - 1)]
    if len(arguments) >= len(declared) and not many:
        return
    if "=VALUE" in metavar:
        yield from _fields(known, declared[0][0], metavar, arguments, given, typed)
        return
    both = metavar == "EXPERIMENT|RUN" or (metavar in ("NAME", "A", "B") and len(node["arguments"]) > 1)
    if "EXPERIMENT" in metavar or both:
        yield from ((name, "experiment") for name in _experiments(known))
    if "RUN" in metavar or both:
        prefix = "runs/" if both else ""
        yield from ((f"{prefix}{name}", "run") for name in _runs(given))
    if "SHELL" in metavar:
        yield from ((shell, "") for shell in ("bash", "zsh", "fish"))
    if both or re.search("EXPERIMENT|RUN|FILE|FOLDER|SOURCE|DIR", metavar):
        yield _FILES, ""


def _fields(
    known: dict[str, Any], first: str, metavar: str, arguments: list[str], given: dict[str, str], typed: str
) -> Iterator[_Candidate]:
    """Fields that can be changed, and after `=` their values."""
    fields: dict[str, Any] = known["fields"]
    roots = re.match(r"(\w+)\.FIELD", metavar)
    allowed = [roots[1]] if roots else ["sampler", "features"] if _is_model(first) else []
    path, equals, _ = typed.partition("=")
    tags = _tags(known, first, arguments, given)
    if equals:
        one = fields.get(path)
        if one is not None:
            yield from ((f"{path}={word}", text) for word, text in [*one["values"].items(), ("?", "what is accepted")])
        return
    for name, one in fields.items():
        root = name.partition(".")[0]
        parent = name.rpartition(".")[0]
        if (root in allowed if allowed else root != "features") and (not parent or _has(one["of"], tags.get(parent))):
            yield f"{name}=", one["text"]


def _is_model(metavar: str) -> bool:
    """Whether an argument is a trained model, of which only the sampler and the features can be changed."""
    return "RUN" in metavar and "EXPERIMENT" not in metavar


def _has(of: list[str], tag: str | None) -> bool:
    return tag is None or tag in of or "" in of


def _tags(known: dict[str, Any], first: str, arguments: list[str], given: dict[str, str]) -> dict[str, str]:
    """Path → tag of the chosen variants: those of the experiment or run, then those that were typed."""
    if not arguments:
        return {}
    name = arguments[0]
    found: dict[str, str] = {}
    if _is_model(first) or name.startswith("runs/"):
        found = _tags_of_run(_run(name.removeprefix("runs/"), given))
    else:
        found = _experiments(known, name).get(name.rpartition(":")[2] if ".py:" in name else name, {})
    return found | {
        path: tag for path, _, tag in (word.partition("=") for word in arguments[1:]) if path in known["fields"]
    }


def _tags_of_run(run: str) -> dict[str, str]:
    import json

    path = os.path.join(run, "config.json")
    if os.path.islink(path) or not os.path.isfile(path):  # opening a pipe would wait forever
        return {}
    with open(path, "rb") as file:
        saved = json.loads(file.read(_LARGEST))
    found: dict[str, str] = {}

    def walk(values: dict[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                if isinstance(value.get("type"), str):
                    found[f"{prefix}{key}"] = value["type"]
                walk(value, f"{prefix}{key}.")

    walk(saved["experiment"], "")
    return found


def _experiments(known: dict[str, Any], wanted: str = "") -> dict[str, dict[str, str]]:
    """Name of each experiment → the tags of its variants, from the text of the files. wanted: also look into this."""
    found: dict[str, dict[str, str]] = {}
    file = wanted if wanted.endswith(".py") else wanted.rpartition(":")[0] if ".py:" in wanted else ""
    for path in [*_files_in(known["built_in"]), *known["files"], *_files_in("experiments"), *([file] if file else [])]:
        inside = _declared(path, known["tags"])
        found |= inside
        if path == wanted and inside:
            found[wanted] = next(iter(inside.values()))
    return found


def _files_in(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if name.endswith(".py") and not name.startswith(("_", "."))]


def _declared(path: str, tags: dict[str, str]) -> dict[str, dict[str, str]]:
    """Experiments that a file declares by a name in quotes, with the variants that stand in the same call."""
    import ast

    try:
        if not os.path.isfile(path):
            return {}
        with open(path, "rb") as file:
            tree = ast.parse(file.read(_LARGEST))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return {}
    found: dict[str, dict[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {one.arg: one.value for one in node.keywords if one.arg}
            name = keywords.get("name")
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if (
                called in ("Experiment", "evolve")
                and isinstance(name, ast.Constant)
                and _NAME.fullmatch(str(name.value))
            ):
                found[str(name.value)] = dict(_chosen(node, "", tags))
    return found


def _chosen(call: Any, prefix: str, tags: dict[str, str]) -> Iterator[tuple[str, str]]:
    import ast

    for one in call.keywords:
        if one.arg and isinstance(one.value, ast.Call):
            function = one.value.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in tags:
                yield f"{prefix}{one.arg}", tags[name]
            yield from _chosen(one.value, f"{prefix}{one.arg}.", tags)


def _folder(given: dict[str, str]) -> str:
    return given.get("--runs") or os.environ.get("NCSNX_RUNS") or "runs"


def _runs(given: dict[str, str]) -> Iterator[str]:
    folder = _folder(given)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if _NAME.fullmatch(name) and os.path.lexists(os.path.join(folder, name, "config.json")):
            yield name


def _run(name: str, given: dict[str, str]) -> str:
    return name if "/" in name else os.path.join(_folder(given), name)


def _checkpoints(run: str | None, typed: str, is_range: bool) -> Iterator[_Candidate]:
    """Steps of a run. In a range, those above the first one after a colon."""
    begin, colon, _ = typed.rpartition(":") if is_range else ("", "", "")
    if not colon:
        yield from (("latest", "the newest"), ("best", "the best by its scores"))
        if is_range:
            yield "all", "every checkpoint"
    if run is None:
        return
    try:
        names = sorted(os.listdir(os.path.join(run, "checkpoints")))
    except OSError:
        return
    for name in names:
        if match := _STEP.fullmatch(name):
            yield f"{begin}{colon}{int(match[1])}", "step"
