"""Commands of the trials of writes; trials of the start of a process start it normally."""

from pathlib import Path

from tests.forked import fork
from tests.training.tiny import Result

PATIENCE_S = 300.0


def finish(*command: str, folder: Path, bytes_a_file: int | None = None) -> Result:
    """Runs `ncsnx COMMAND` in `folder`. bytes_a_file: largest size of the files that it writes."""
    with fork(*command, folder=folder, bytes_a_file=bytes_a_file) as process:
        out, err = process.communicate(PATIENCE_S)
        return Result(process.wait(), out, err)
