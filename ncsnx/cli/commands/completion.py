"""`ncsnx completion`: the script that makes a shell complete what is typed after `ncsnx`."""

from typing import Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.session import FROM_THE_START, session


@command("completion", panel=RUNS_PANEL, place=190)
def completion_command(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
    verbose: options.Verbose = False,
) -> None:
    """Print the completion script of a shell.

    Add a line to the file that your shell reads when it starts: `eval "$(ncsnx completion bash)"` to ~/.bashrc, `eval
    "$(ncsnx completion zsh)"` to ~/.zshrc after compinit, `ncsnx completion fish | source` to
    ~/.config/fish/config.fish.

    Pressing Tab executes no experiment file and nothing of a run.
    """
    with session(FROM_THE_START, verbose=verbose) as messages:
        from ncsnx.cli.completion.grammar import grammar
        from ncsnx.cli.completion.shell_scripts import SCRIPTS
        from ncsnx.config.checks import quoted
        from ncsnx.errors import UsageError

        if shell not in SCRIPTS:
            raise UsageError(f"expected bash, zsh or fish, found {quoted(shell)}")
        grammar()  # kept for the first completion, which is then as quick as the others
        messages.data(SCRIPTS[shell].strip())
