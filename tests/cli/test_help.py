"""Help texts, of every command that the application has."""

import typer

from ncsnx.cli import app
from tests.cli.command import run


def test_wherever_features_can_be_a_file_help_says_that_it_runs_code() -> None:
    commands = typer.main.get_group(app).commands
    seen = []
    for name in commands:
        text = " ".join(run(name, "--help").out.split())
        if "torchscript:" in text:
            seen.append(name)
            assert "A FILE is TorchScript, which runs code: name only files that you trust." in text, name
    assert {"fid", "compare", "neighbors", "reference"} <= set(seen)
