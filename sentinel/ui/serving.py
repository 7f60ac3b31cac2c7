"""The server itself: a socket, uvicorn, and an end at once when it is asked for."""

from __future__ import annotations

import asyncio
import socket
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from sentinel.errors import ConfigError
from sentinel.priority import Priority
from sentinel.reports.picture.templates import PAGE_FILES, environment
from sentinel.rules.rule import Rule
from sentinel.ui.application import Application
from sentinel.ui.door import Entry, is_loopback
from sentinel.ui.drawings import Drawings
from sentinel.ui.look import Look
from sentinel.ui.markup import dotted
from sentinel.ui.news import News
from sentinel.ui.static import UI_FILES, Static

_PRIORITY = Priority(nice=10, io="lowest")
"""It gives way to the training."""

_LONGEST_REQUEST = 16 * 1024
_LAST_WORDS_S = 1


@dataclass(frozen=True, slots=True)
class Serving:
    """Where to serve and to whom: ``names`` are further names of this machine, as of a proxy."""

    host: str
    port: int
    names: tuple[str, ...] = ()
    token: str | None = None
    opens_browser: bool = False


def serve(
    log: Path,
    journal: Path,
    rules: Mapping[str, Rule],
    serving: Serving,
    *,
    options: Sequence[str],
    on_ready: Callable[[str], None],
) -> None:
    """Serve the pages of a health log until SIGINT or SIGTERM.

    ``on_ready`` is told the address as soon as it answers. Raises ConfigError for an address that
    cannot be had, or that others reach and no token guards.
    """
    if serving.token is None and not is_loopback(serving.host):
        raise ConfigError(
            f"address '{serving.host}'",
            fact="is reached from other machines, and no token guards it",
            todo="give --token-file or SENTINEL_UI_TOKEN, or stay at 127.0.0.1",
        )
    templates = environment(UI_FILES, PAGE_FILES)
    templates.filters["dotted"] = dotted
    look = Look(log, journal, rules, options, templates, Drawings())
    with _listening(serving) as listening:
        asyncio.run(_serve(look, serving, listening, on_ready))


async def _serve(
    look: Look, serving: Serving, listening: socket.socket, on_ready: Callable[[str], None]
) -> None:
    news = News()
    entry = Entry.of(serving.host, serving.names, serving.token)
    app = Application(look, entry, static=Static(), news=news)
    config = uvicorn.Config(
        app.asgi,
        http="h11",
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_LONGEST_REQUEST,
        timeout_graceful_shutdown=_LAST_WORDS_S,
    )
    _PRIORITY.take()
    address = _address(serving, listening)

    def ready() -> None:
        on_ready(address)
        if serving.opens_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    await _Server(config, news, ready).serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends the streams as soon as it is asked to end, and tells when it answers."""

    def __init__(self, config: uvicorn.Config, news: News, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._news = news
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the streams end, then everything."""
        await self._news.end()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal as uvicorn does, and do not raise it again once all is over."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


def _listening(serving: Serving) -> socket.socket:
    try:
        (family, _, _, _, place), *_ = socket.getaddrinfo(
            serving.host, serving.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(place[:2], family=family, backlog=128)
    except OSError as error:
        raise ConfigError(
            f"address '{serving.host}:{serving.port}'",
            fact=f"cannot be listened at ({error.strerror or error})",
            todo="give another --port or --host",
        ) from error


def _address(serving: Serving, listening: socket.socket) -> str:
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    return f"http://{host}:{listening.getsockname()[1]}/"


def token_of(file: Path | None, environ: Mapping[str, str]) -> str | None:
    """Return the token of a file, else of SENTINEL_UI_TOKEN, None where neither is given.

    Raises ConfigError for one that cannot be read, or that is guessed too easily.
    """
    where = f"in '{file}'" if file else "in SENTINEL_UI_TOKEN"
    if file is not None:
        try:
            told = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            fact = getattr(error, "strerror", None) or "is no UTF-8 text"
            raise ConfigError(
                "token", where=where, fact=f"cannot be read ({fact})", todo="check --token-file"
            ) from error
    elif "SENTINEL_UI_TOKEN" in environ:
        told = environ["SENTINEL_UI_TOKEN"].strip()
    else:
        return None
    if len(told) < _SHORTEST_TOKEN or not _is_plain(told):
        raise ConfigError(
            "token",
            where=where,
            fact=f"must be at least {_SHORTEST_TOKEN} visible ASCII characters without spaces",
            todo="make one with `openssl rand -hex 24`",
        )
    return told


_SHORTEST_TOKEN = 16


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not any(char.isspace() for char in text)
