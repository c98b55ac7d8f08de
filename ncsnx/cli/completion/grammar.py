"""The grammar of the command line as plain JSON: commands, options, fields and variants. Kept in the cache folder.

Collecting it imports typer and every command, which takes longer than a completion may; reading it doesn't.
"""

import json
import os
import sys
import zlib
from contextlib import suppress
from typing import Any

import ncsnx
from ncsnx.version import __version__


def grammar() -> dict[str, Any]:
    """The grammar: from the cache if nothing has been installed or changed since, else collected and kept."""
    stamp = _stamp()
    folders = json.dumps([folder for folder, _ in stamp[-1]])  # each environment has a file of its own
    path = os.path.join(_folder(), f"completion-{zlib.crc32(folders.encode()):08x}.json")
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        if isinstance(kept, dict) and kept.get("stamp") == stamp:
            return kept
    except (OSError, ValueError):
        pass
    found = {"stamp": stamp, **_collected()}
    _keep(path, found)
    return found


def _folder() -> str:
    if given := os.environ.get("NCSNX_CACHE"):
        return given
    from platformdirs import user_cache_dir

    return user_cache_dir("ncsnx", appauthor=False)


def _stamp() -> list[Any]:
    """Changes whenever a package is installed or removed, or a file of ncsnx is changed."""
    newest = 0
    for folder, inner, files in os.walk(os.path.dirname(ncsnx.__file__)):
        inner[:] = [name for name in inner if name != "__pycache__"]
        if os.path.basename(folder) in ("cli", "commands", "parsing", "completion", "config"):
            newest = max(newest, *(os.stat(os.path.join(folder, name)).st_mtime_ns for name in files), 0)
    folders = []
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for folder in sys.path:
        if folder in own or folder.endswith("-packages"):  # not the current folder, nor that of the program
            with suppress(OSError):
                folders.append([folder, os.stat(folder).st_mtime_ns])
    return [__version__, sys.version, newest, folders]


def _keep(path: str, found: dict[str, Any]) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(found, file)
        os.replace(temporary, path)
    except OSError:
        return  # it is collected again next time


def _collected() -> dict[str, Any]:
    from pathlib import Path

    import typer

    from ncsnx.cli.application import app
    from ncsnx.config.discovery import built_in_folder, installed_files
    from ncsnx.config.reference.field_facts import first_sentence
    from ncsnx.config.reference.questions import all_facts
    from ncsnx.config.variants import registered_tags

    root: Any = typer.main.get_group(app)
    context = root.context_class(root, info_name="ncsnx")
    fields: dict[str, dict[str, Any]] = {}
    for fact in all_facts():
        one = fields.setdefault(fact.path, {"text": first_sentence(fact.text), "of": [], "values": {}})
        one["of"].append(fact.of)
        one["values"] |= fact.values
    return {
        "commands": _commands(root, context),
        "fields": fields,
        "tags": registered_tags(),
        "files": [str(path) for path in installed_files() if isinstance(path, Path)],
        "built_in": str(built_in_folder()),
    }


def _commands(group: Any, context: Any) -> dict[str, Any]:
    from ncsnx.cli.help_pages import summary

    found = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = command.context_class(command, info_name=name, parent=context)
        options, arguments = {}, []
        for one in command.get_params(inner):
            if one.param_type_name == "argument":
                arguments.append([one.metavar or one.name.upper(), one.nargs != 1])
            else:
                value = "" if one.is_flag else one.metavar or "VALUE"
                for option in (*one.opts, *one.secondary_opts):
                    options[option] = [value, one.help or "", one.nargs]
        within = _commands(command, inner) if hasattr(command, "commands") else {}
        found[name] = {"text": summary(command), "options": options, "arguments": arguments, "commands": within}
    return found
