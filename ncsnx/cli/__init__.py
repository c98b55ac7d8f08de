"""The command line: commands as Typer builds and calls them. A command imports what it needs when it runs."""

import _signal  # type: ignore[import-not-found]  # `signal` without its imports, which take as long as Python's start
import os
import sys

TYPE_CHECKING = False  # as in typing, without its import
if TYPE_CHECKING:
    from ncsnx.cli.application import app

__all__ = ["app", "main"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def main() -> None:
    """Entry point of `ncsnx`."""
    _end_quietly_on_interrupt()  # first: the imports that follow take a good part of a second
    if sys.platform == "win32":
        sys.exit("error: ncsnx runs on Linux and macOS; on Windows, use it inside WSL 2")
    _open_standard_streams()
    _wait_politely()
    _keep_freed_memory()
    from ncsnx.cli.application import app

    _report_disk_errors_once()
    _ignore_lost_stops()

    try:
        app()
    except BaseException as error:
        if isinstance(error, OSError):
            _end_if_output_is_lost()
        _end_rank(error)
        raise


def _end_rank(error: BaseException) -> None:
    """Ends one of several ranks at once. In a normal exit after a failure gloo and NCCL wait for the others, and after
    success threads of torch now and then abort the process."""
    from ncsnx.ranks.rank_group import world_here

    if world_here() == 1:
        return
    code: object = 1
    if isinstance(error, SystemExit):
        code = error.code or 0
    else:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _end_quietly_on_interrupt() -> None:
    """Lets Ctrl-C end the process as the system does, without a traceback, until a command begins and after it.

    A shell shows exit code 130. Where Ctrl-C is ignored, as in a background job of a script, it stays ignored.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _open_standard_streams() -> None:
    """Opens /dev/null in place of each closed standard stream.

    Otherwise the next opened file would take its number, and messages of native code to standard error would be written
    into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number: this one


def _end_if_output_is_lost() -> None:
    """Ends with one line if help couldn't be written to standard output, as on a full disk."""
    from ncsnx.console.messages import Outlet, takes_no_more

    try:
        Outlet(sys.stdout).write("")  # flushes the rest, or drops it
    except OSError as error:
        sys.exit(f"error: {takes_no_more(error)}")


def _report_disk_errors_once() -> None:
    """Lets the thread of TensorBoard's writer end without a traceback for an OSError, which the writer raises again."""
    import threading

    report = threading.excepthook

    def report_others(failure: threading.ExceptHookArgs) -> None:
        of_writer = type(failure.thread).__module__.startswith("tensorboard.")
        if not (of_writer and isinstance(failure.exc_value, OSError)):
            report(failure)

    threading.excepthook = report_others


def _ignore_lost_stops() -> None:
    """Has Python not report a Stopped that a signal raised where it is ignored, as in a callback of an import. The
    request is still known, and ends the command."""
    report = sys.unraisablehook

    def report_others(failure: "sys.UnraisableHookArgs") -> None:
        if failure.exc_type.__name__ != "Stopped":
            report(failure)

    sys.unraisablehook = report_others


def _wait_politely() -> None:
    """Lets idle OpenMP threads sleep soon instead of spinning, unless the user has set OMP_WAIT_POLICY.

    Where another process wants a core, threads that spin are never given precedence when they are needed, and a step of
    a small network takes up to 15 times as long (measured with two processes on two cores).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def _keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next step, unless the user has set the variables that decide it.

    By default it returns large blocks to the system, which clears every page again that it gives. That took 1 to 7 % of
    an evaluation or a training step (width 128, 32 px, batches of 8). Blocks above 128 MiB, such as a picture of 12
    megapixels, are still returned; older versions of glibc accept at most 32 MiB. Where neither is accepted, nothing
    changes: a higher trim threshold alone would slow down large blocks many times.
    """
    if sys.platform != "linux" or not {
        "GLIBC_TUNABLES",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
    }.isdisjoint(os.environ):
        return
    try:
        import ctypes

        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    except (ImportError, OSError):  # Python was built without ctypes, or the C library can't be opened
        return
    if mallopt is not None and (mallopt(_M_MMAP_THRESHOLD, 2**27) or mallopt(_M_MMAP_THRESHOLD, 2**25)):
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def __getattr__(name: str) -> object:
    if name == "app":
        from ncsnx.cli.application import app

        return app
    raise AttributeError(f"module 'ncsnx.cli' has no attribute {name!r}")
