"""`ncsnx page`: restores photographs in the browser."""

import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Command, Panel, argument, command, option
from ncsnx.commands.groups import InRuns, Place
from ncsnx.errors import Hint, UsageError
from ncsnx.results import Lines
from ncsnx.spelling import argument as spelled

if TYPE_CHECKING:
    import uvicorn

    from ncsnx.work import Work


@command("page", panel=Panel.TRAIN, order=35, then="pictures that weren't downloaded or kept are gone")
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Page(InRuns, Command[Lines]):
    """Restore photographs in the browser.

    Prints an address of this machine and opens it: drop a photograph, see its noise and the expected time, paint what
    is to be filled in, watch, stop, compare, and download. The page also has the reports of the runs. Nobody else can
    open it, and it loads nothing from anywhere. Ctrl-C ends it.
    """

    model: Annotated[str, argument("MODEL", complete="run")] = attrs.field(default="photographs", kw_only=False)
    """The model that is chosen first: a run or an exported model. Other runs can be chosen on the page."""
    port: Annotated[int, option(Panel.OUTPUT, "N", default="any that is free", between=(0, 65_535))] = 0
    """Port of the address."""
    browser: Annotated[bool, option(Panel.OUTPUT)] = True
    """Open the address in the browser."""
    keep: Annotated[Place | None, option(Panel.OUTPUT, "DIR", default="none", parse=values.path)] = None
    """Folder for the restored pictures; without it, they are removed at the end."""

    def carry_out(self, work: "Work") -> Lines:
        with work.interruptible():
            import uvicorn

            from ncsnx.page.server import HOST, PageServer
            from ncsnx.runs.selection import open_model_folder
            from ncsnx.storage.atomic import make_folder

            open_model_folder(self.runs_folder(), self.model, work).spec()
        with ExitStack() as entered:
            made = Path(entered.enter_context(TemporaryDirectory(prefix="ncsnx-page-")))
            uploads, results = made / "uploads", made / "results" if self.keep is None else Path(self.keep)
            for folder in (uploads, results):
                make_folder(folder)
            listening = entered.enter_context(self._listening(HOST))
            page = PageServer(
                model=self.model,
                runs=self.runs_folder(),
                runs_typed=None if self.runs is None else str(self.runs),
                uploads=uploads,
                results=results,
                keeps=self.keep is not None,
            )
            address = f"http://{HOST}:{listening.getsockname()[1]}/{page.token}/"
            print(address, flush=True)
            work.info("this address is for you alone; Ctrl-C ends the page")
            if self.browser:
                _open(address, made / "page.html", work)
            config = uvicorn.Config(page.app(), log_level="warning", timeout_graceful_shutdown=1, ws="none")
            _serve(uvicorn.Server(config), listening, work)
        return Lines((), {"address": address})

    def _listening(self, host: str) -> socket.socket:
        """A socket at the port. Raises UsageError for one that is taken."""
        try:
            return socket.create_server((host, self.port))
        except OSError as error:
            raise UsageError(
                f"{spelled('port', self.port)}: {error.strerror}", Hint("take any that is free", "ncsnx page")
            ) from error


def _open(address: str, file: Path, work: "Work") -> None:
    """Opens the address in the browser, by a file: other users see the command lines of processes."""
    import webbrowser

    file.touch(mode=0o600)
    file.write_text(f'<meta http-equiv="refresh" content="0; url={address}">')
    if not webbrowser.open(file.as_uri()):
        work.warning("no browser was found; open the address in one")


def _serve(server: "uvicorn.Server", listening: socket.socket, work: "Work") -> None:
    """Serves until the work is stopped. In a thread of its own, where uvicorn leaves signals to the work."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="page")
    thread.start()
    try:
        while thread.is_alive():
            work.check_stop()
            thread.join(0.1)
    finally:
        server.should_exit = True
        thread.join()
