"""Commands in processes forked from one that has imported everything, which start in a tenth of the time.

From there they do the same as `python -m ncsnx`. Tests of the start of a process start it normally, and so do tests of
variables that only a start or an import reads, which have no effect here: PYTHON…, LD_…, GLIBC_TUNABLES and MALLOC_…,
OMP_…, GOMP_… and MKL_…, and those that torch and matplotlib read when they are imported (MPLBACKEND, MPLCONFIGDIR).
"""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import TextIOWrapper
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).parents[1]
PRELOADED = [
    "ncsnx.cli.application",
    "ncsnx.console.training",
    "ncsnx.training.loop",
    "ncsnx.training.start",
    "ncsnx.sampling.drawing",
    "ncsnx.evaluation.held_out",
    "ncsnx.evaluation.distance",
    "ncsnx.evaluation.plots",
    "torch.utils.tensorboard",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "torch.fx.experimental.symbolic_shapes",  # a backward pass imports it
    "tests.forked",
]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(PRELOADED)


def fork(*words: str, folder: Path, bytes_a_file: int | None = None) -> "Forked":
    """Starts `ncsnx WORDS` in a folder. bytes_a_file: largest size of the files that it writes."""
    return Forked(words, folder, bytes_a_file)


class Forked:
    """A process with the part of subprocess.Popen's interface that the tests use."""

    def __init__(self, words: tuple[str, ...], folder: Path, bytes_a_file: int | None) -> None:
        _start_server()
        out, theirs_out = FORKS.Pipe(duplex=False)
        err, theirs_err = FORKS.Pipe(duplex=False)
        self._pipes = out, err
        self.stdout, self.stderr = (
            TextIOWrapper(os.fdopen(os.dup(pipe.fileno()), "rb"), encoding="utf-8") for pipe in self._pipes
        )
        arguments = words, folder, dict(os.environ), theirs_out, theirs_err, bytes_a_file
        self._process = FORKS.Process(target=_run, args=arguments)
        self._process.start()
        theirs_out.close()
        theirs_err.close()

    def __enter__(self) -> "Forked":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self._process.join()
        self._close()

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended the process; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("ncsnx", timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """The rest of both streams. Kills a process that outlives `timeout`, and raises subprocess.TimeoutExpired."""
        with ThreadPoolExecutor(2) as pool:
            out, err = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            told = out.result(), err.result()
        self._close()
        return told

    def _close(self) -> None:
        for file in (self.stdout, self.stderr, *self._pipes):
            file.close()


def _start_server() -> None:
    """Starts the process that forks, which must find the sources from any folder."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _run(
    words: tuple[str, ...],
    folder: Path,
    environment: Mapping[str, str],
    out: Connection,
    err: Connection,
    bytes_a_file: int | None,
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    multiprocessing.set_start_method(None, force=True)  # of its own workers: the system's, as in any other process
    if bytes_a_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))
    from ncsnx.cli import main

    sys.argv = ["ncsnx", *words]
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 0
    raise SystemExit(code)  # multiprocessing waits for threads and flushes the streams, as the end of a process does
