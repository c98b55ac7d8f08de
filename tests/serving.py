"""A local HTTP server in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def served(handler: type[BaseHTTPRequestHandler], **attributes: object) -> Iterator[str]:
    """The address of a server that answers with `handler`, a class that gets these attributes, until the block ends."""
    quiet = type(handler.__name__, (handler,), {"log_message": lambda *_: None, **attributes})
    http = ThreadingHTTPServer(("127.0.0.1", 0), quiet)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
