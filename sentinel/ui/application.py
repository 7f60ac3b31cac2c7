"""What the server answers: pages, their parts, the stream of news, and its own few files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio.to_thread
import duckdb
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from sentinel import __version__
from sentinel.errors import SentinelError
from sentinel.ui import checkpoint_page, events_page, rules_pages, run_page, runs_page
from sentinel.ui.door import Door, Entry
from sentinel.ui.kept_pages import Kept, KeptPages
from sentinel.ui.look import Look
from sentinel.ui.news import News, TooManyStreamsError
from sentinel.ui.pages import NotThereError, Page, Part, asked
from sentinel.ui.static import Static
from sentinel.ui.watching import Watch

if TYPE_CHECKING:
    from starlette.requests import Request

HAVE = "sentinel-have"
"""The header in which a page says which parts it has: `name=version`, with commas between."""

ONLY = "sentinel-only"
"""The header in which it names the one part that it asks for, as a table that is sorted does."""

_LOOK_EVERY_S = 1.0
_SHARE = 4
"""Between two looks at the log lies so many times what the pages took that came of the last."""

_LOG = logging.getLogger(__name__)


class Application:
    """The pages of one health log. ``end`` lets every open stream end."""

    def __init__(self, look: Look, entry: Entry, *, static: Static, news: News) -> None:
        self._look = look
        self._static = static
        self._news = news
        self._kept = KeptPages(news)
        self._watch = Watch(look.log)
        self.asgi = Door(self._starlette(), entry, self.refuse)

    def _starlette(self) -> Starlette:
        pages: tuple[tuple[str, Callable[..., Page], Iterable[str]], ...] = (
            ("/", runs_page.runs_page, runs_page.PARAMETERS),
            ("/runs/{run_id}", run_page.run_page, run_page.PARAMETERS),
            (
                "/runs/{run_id}/checkpoints/{checkpoint_id}",
                checkpoint_page.checkpoint_page,
                checkpoint_page.PARAMETERS,
            ),
            ("/events", events_page.events_page, events_page.PARAMETERS),
            ("/rules", rules_pages.rules_page, rules_pages.PARAMETERS),
            ("/rules/{rule_id}", rules_pages.rule_page, ()),
        )
        routes = [Route(path, self._answering(make, known)) for path, make, known in pages]
        routes.append(Route("/live", self._live))
        routes.append(Route("/static/{name}", self._file))
        return Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={HTTPException: self._not_routed},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002 - by Starlette
        watching = asyncio.create_task(self._watching())
        try:
            yield
        finally:
            watching.cancel()

    async def _watching(self) -> None:
        while True:
            # Pages that take long come less often: most of the machine is the training's.
            await asyncio.sleep(max(_LOOK_EVERY_S, _SHARE * self._kept.took_s()))
            changed = await anyio.to_thread.run_sync(self._watch.changed)
            if changed:
                await self._news.publish(changed)

    def _answering(
        self, make: Callable[..., Page], known: Iterable[str]
    ) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            only = request.headers.get(ONLY, "")
            question = asked(request.scope["path"], request.query_params, known, only=only)
            names = request.path_params
            key = question.key
            try:
                kept = await self._kept.page(key, lambda: make(self._look, question, **names))
            except Exception as error:  # noqa: BLE001 - whatever it is, a reader gets a sentence
                return self._failed(error)
            have = request.headers.get(HAVE)
            html = self._whole(kept) if have is None else self._parts(kept, _had(have))
            return HTMLResponse(
                html, headers={"cache-control": "no-store", "vary": f"{HAVE}, {ONLY}"}
            )

        return answer

    def _whole(self, kept: Kept) -> str:
        return self._look.render(
            "layout.html",
            page=kept.page,
            since=kept.since,
            version=__version__,
            at=self._static.addresses,
        )

    def _parts(self, kept: Kept, had: Mapping[str, str]) -> str:
        parts = [part for part in kept.page.parts if had.get(part.id) != part.version]
        return self._look.render("parts.html", parts=parts, title=kept.page.title)

    async def _live(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        since = request.headers.get("last-event-id") or request.query_params.get("since", "")
        try:
            stream = self._news.open(since)
        except TooManyStreamsError:
            return self.refuse(503, "Too many streams", "Close some of the pages that are open.")
        return StreamingResponse(
            _lines(stream), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _file(self, request: Request) -> Response:
        file = self._static.file(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        kept = "public, max-age=31536000, immutable"
        return Response(file.data, media_type=file.kind, headers={"cache-control": kept})

    async def _not_routed(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - by Starlette
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self.refuse(status, HTTPStatus(status).phrase, "There is no such page.")

    def _failed(self, error: Exception) -> Response:
        """Return a page of one sentence about whatever went wrong."""
        if isinstance(error, NotThereError):
            return self.refuse(404, "Not there", f"{error}.")
        if isinstance(error, duckdb.OutOfMemoryException):
            said = "This question needs more memory than a page may take; ask for less."
            return self.refuse(503, "Too much", said)
        if isinstance(error, SentinelError):
            return self.refuse(503, "Not now", f"{error}.")
        _LOG.error("a page could not be made", exc_info=error)
        return self.refuse(500, "A bug", "This page could not be made; the server's log says why.")

    def refuse(self, status: int, title: str, sentence: str) -> Response:
        """Return an answer that is no page asked for: a heading and a sentence."""
        html = self._look.render("error.html", title=title, sentence=sentence)
        page = Page(title, "", (Part("error", html),))
        text = self._whole(Kept(page, "", 0))
        return HTMLResponse(text, status_code=status, headers={"cache-control": "no-store"})


def _had(header: str) -> dict[str, str]:
    pairs = (one.strip().partition("=") for one in header.split(",")[:50])
    return {name: version for name, _, version in pairs}


async def _lines(
    stream: AsyncIterator[tuple[str, frozenset[str] | None] | None],
) -> AsyncIterator[str]:
    """Yield server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    async with contextlib.aclosing(stream) as moments:  # type: ignore[type-var]
        async for moment in moments:
            if moment is None:
                yield ": here\n\n"
                continue
            name, runs = moment
            told = json.dumps({"runs": None if runs is None else sorted(runs)})
            yield f"id: {name}\nevent: changed\ndata: {told}\n\n"
