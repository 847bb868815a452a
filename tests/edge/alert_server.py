"""A server on loopback that receives alerts, and fails as a test wants it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """A server on loopback that answers each request as `answers` says, then 200.

    An answer is a status, the target of a redirect, or a function: what it returns is the status, and no
    answer if it is no number.
    """

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    def received(self) -> list[float]:
        """Return `for_s` of what was accepted."""
        return [json.loads(body)["for_s"] for _, _, body in self.requests]


@contextmanager
def server(port: int = 0) -> Iterator[tuple[Server, str]]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = state.answers.pop(0) if state.answers else 200
            if callable(answer):
                answer = answer()
                if type(answer) is not int:
                    return
            if answer == 200:
                state.requests.append((self.path, dict(self.headers), body))
            if isinstance(answer, str):
                self.send_response(302)
                self.send_header("Location", answer)
            else:
                self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    found = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{found.server_port}"
    finally:
        found.shutdown()
        found.server_close()
        thread.join()
