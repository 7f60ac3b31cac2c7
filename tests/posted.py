"""A real HTTP server that takes what apprise posts, and can be slow, broken or silent."""

from __future__ import annotations

import base64
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

DEADLINE_S = 60


class Mailbox:
    """What arrived. ``answers`` are the status codes to give, 200 when there are none left."""

    def __init__(self, *answers: int, silent: bool = False) -> None:
        self._arrived: queue.Queue[dict[str, Any]] = queue.Queue()
        self._answers = list(answers)
        self.silence = threading.Event() if silent else None
        self.port = 0
        self.asked = threading.Semaphore(0)

    @property
    def url(self) -> str:
        """Its address, with a password and a path that nobody may ever see."""
        return f"json://watcher:hunter2secret@127.0.0.1:{self.port}/hook-token-4711/"

    def next(self) -> dict[str, Any]:
        """The next message, waited for."""
        try:
            return self._arrived.get(timeout=DEADLINE_S)
        except queue.Empty:
            return pytest.fail("no message came")

    def rest(self) -> list[dict[str, Any]]:
        """What else has arrived by now."""
        found = []
        while not self._arrived.empty():
            found.append(self._arrived.get())
        return found

    def took(self, body: bytes) -> int:
        self.asked.release()
        if self.silence is not None:
            self.silence.wait(DEADLINE_S)
        status = self._answers.pop(0) if self._answers else 200
        if status == 200:
            self._arrived.put(json.loads(body))
        return status


def pictures(message: dict[str, Any]) -> list[bytes]:
    """The files that came with a message."""
    return [base64.b64decode(one["base64"]) for one in message["attachments"]]


@contextmanager
def mailbox(*answers: int, silent: bool = False) -> Iterator[Mailbox]:
    box = Mailbox(*answers, silent=silent)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(box.took(body))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    box.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield box
    finally:
        if box.silence is not None:
            box.silence.set()
        server.shutdown()
        server.server_close()
