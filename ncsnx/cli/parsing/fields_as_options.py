"""Fields that were typed as options: `--steps 900` instead of `steps=900`."""

import inspect
import shlex
from collections.abc import Callable

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.errors import Hint, UsageError


def refuse_fields(command: str, function: Callable[..., object], words: list[str]) -> None:
    """Raises UsageError for a field of an experiment that is typed as an option, with what to type.

    command: name of the command. function: has the options as its parameters. words: what follows the name.
    """
    fields = {field.name for field in attrs.fields(Experiment)}
    options = inspect.signature(function).parameters
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        path = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and path.partition(".")[0] in fields and path not in options:
            after = words[place + 1 :]
            if not equals and after:
                value, *after = after
            typed = shlex.join(["ncsnx", command, *words[:place], f"{path}={value or 'VALUE'}", *after])
            raise UsageError(f"{option} is not an option: {path} is a field of the experiment", Hint("type", typed))
