"""Processes forked from one that has imported everything, to start many in the time of one.

From there they do the same as `python -m ncsnx`. They are for trials of writes; trials of the start of a process start
it normally.
"""

import multiprocessing
import os
import resource
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from tests.training.tiny import Result

PATIENCE_S = 300.0
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "ncsnx.cli",
        "ncsnx.console.training",
        "ncsnx.training.loop",
        "ncsnx.training.files.events",
        "ncsnx.training.start",
        "ncsnx.sampling.sample",
        "ncsnx.evaluation.sweeps.held_out_sweep",
        "ncsnx.evaluation.sweeps.distance_sweep",
        "ncsnx.evaluation.plots",
        "sklearn.datasets",
        "matplotlib.backends.backend_agg",
        "torch._dynamo",  # an optimizer imports it
        "tests.chaos.__main__",
    ]
)


def finish(*command: str, folder: Path, bytes_a_file: int | None = None) -> Result:
    """Runs `ncsnx COMMAND` in `folder`. bytes_a_file: largest size of the files that it writes."""
    out_reader, out_writer = _FORKS.Pipe(duplex=False)
    err_reader, err_writer = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_command, args=(command, folder, out_writer, err_writer, bytes_a_file))
    process.start()
    out_writer.close()
    err_writer.close()
    patience = threading.Timer(PATIENCE_S, process.kill)
    patience.start()
    with ThreadPoolExecutor(1) as pool:
        out = pool.submit(_all, out_reader)
        err, _, code = _all(err_reader).partition(b"\0")
    patience.cancel()
    process.join()
    return Result(int(code or -1), out.result().decode(), err.decode())


def _all(reader: Connection) -> bytes:
    with reader, open(reader.fileno(), "rb", closefd=False) as pipe:
        return pipe.read()


def _command(
    command: tuple[str, ...], folder: Path, out: Connection, err: Connection, bytes_a_file: int | None
) -> None:
    os.chdir(folder)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    if bytes_a_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))
    from ncsnx.cli import main

    sys.argv = ["ncsnx", *command]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(2, f"\0{code or 0}".encode())
