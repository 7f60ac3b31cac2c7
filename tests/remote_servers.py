"""A web server over a directory, with ranges, which counts what it was asked for."""

from __future__ import annotations

import os
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class FileServer:
    """Serves ``root`` at `url`; ``sent_bytes`` counts the bytes of bodies of files.

    ``before`` is called with each request's path, and may change files; ``refuses`` is a status
    for every request; without ``ranges`` whole files are sent, whatever is asked for.
    """

    def __init__(self, root: Path) -> None:
        self.ranges = True
        self.refuses = 0
        self.hangs = False
        self.sent_bytes = 0
        self.requests: list[str] = []
        self.before = lambda _path: None
        self.ended = threading.Event()
        handler = partial(_Handler, self, directory=str(root))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_reason: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, owner: FileServer, *arguments, **options) -> None:
        self._owner = owner
        self._left = None
        super().__init__(*arguments, **options)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing on standard error."""

    def send_head(self):
        owner = self._owner
        owner.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")
        owner.before(self.path)
        if owner.hangs:
            owner.ended.wait()
        if owner.refuses:
            self.send_error(owner.refuses)
            return None
        path = Path(self.translate_path(self.path))
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if path.is_dir() or not path.exists():
            return super().send_head()
        file = path.open("rb")
        status = os.fstat(file.fileno())
        begin, end = 0, status.st_size - 1
        if asked and owner.ranges:
            begin, end = int(asked[1]), min(int(asked[2]), end)
        self.send_response(206 if asked and owner.ranges else 200)
        if asked and owner.ranges:
            self.send_header("Content-Range", f"bytes {begin}-{end}/{status.st_size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - begin + 1))
        self.send_header("ETag", f'"{status.st_mtime_ns:x}-{status.st_size:x}"')
        self.send_header("Last-Modified", self.date_time_string(int(status.st_mtime)))
        self.end_headers()
        file.seek(begin)
        self._left = end - begin + 1
        return file

    def copyfile(self, source, outputfile) -> None:
        if self._left is None:
            super().copyfile(source, outputfile)
            return
        try:
            while self._left and (data := source.read(min(self._left, 1 << 16))):
                self._left -= len(data)
                self._owner.sent_bytes += len(data)
                outputfile.write(data)
        except ConnectionError:  # who asked has gone, as after a whole file instead of a range
            self.close_connection = True
