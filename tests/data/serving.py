"""A local HTTP server in a thread that can misbehave as real servers do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import attrs

from tests.serving import served


@attrs.define
class Server:
    """Configuration of the server, and a record of its requests."""

    files: dict[str, bytes]
    breaks_off_after: list[int] = attrs.Factory(list)
    """Number of bytes after which the connection ends, for each of the first requests."""
    status: int = 200
    says_length: bool = True
    before: Callable[[], None] = lambda: None
    requests: int = 0
    address: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        self.before()
        content = self.files.get(handler.path.removeprefix("/"))
        if self.status != 200 or content is None:
            handler.send_error(404 if content is None else self.status)
            return
        handler.send_response(200)
        if self.says_length:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: self.breaks_off_after.pop(0)] if self.breaks_off_after else content)
        handler.close_connection = True


class _Handler(BaseHTTPRequestHandler):
    behavior: Server

    def do_GET(self) -> None:
        self.behavior.answer(self)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    with served(_Handler, behavior=server) as server.address:
        yield server
