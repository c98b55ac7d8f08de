"""Training and sampling import no library that takes long and that they don't need."""

import subprocess
import sys
from pathlib import Path

from tests.cli.command import REPOSITORY
from tests.training.tiny import CPU, training

PROGRAM = f"""
import sys
from ncsnx.cli import app
for words in {[training("steps=2", "--no-report"), ["sample", "digits", "--n", "2", *CPU]]!r}:
    app(words, standalone_mode=False)
assert not {{"sklearn", "torch._dynamo", "torch._inductor", "matplotlib"}} & set(sys.modules)
"""


def test_training_and_sampling_import_no_compiler_and_no_scikit_learn(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
