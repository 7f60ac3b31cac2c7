"""Pages that were made and still hold: made once, whoever asks."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import anyio.to_thread

from sentinel.ui.news import News
from sentinel.ui.pages import Page

_MOST_KEPT = 24
"""A run's page is about a megabyte."""

_AT_ONCE = 2
"""Pages that are made at the same time: DuckDB's budget counts for each."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A page, the moment it was asked for, and the changes that it knows of."""

    page: Page
    since: str
    number: int


class KeptPages:
    """Makes pages in threads and keeps the newest until what they tell of changes.

    ``took_s`` is how long the last page took that had to be made, since it was asked.
    """

    def __init__(self, news: News) -> None:
        self._news = news
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._making: dict[str, asyncio.Lock] = {}
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        self._longest_s = 0.0

    def took_s(self) -> float:
        """Return the longest that a page took since this was asked last, in seconds."""
        longest, self._longest_s = self._longest_s, 0.0
        return longest

    async def page(self, key: str, make: Callable[[], Page]) -> Kept:
        """Return the page of that address; raises what making it raises."""
        lock = self._making.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                kept = self._kept.get(key)
                if kept is None or self._news.version(kept.page.watches) > kept.number:
                    kept = await self._made(key, make)
                self._kept.move_to_end(key)
                return kept
        finally:
            if not lock.locked():
                self._making.pop(key, None)

    async def _made(self, key: str, make: Callable[[], Page]) -> Kept:
        # Asked for before the log is read: what comes meanwhile is news to the page.
        since, number = self._news.since, self._news.number
        begun = time.monotonic()
        page = await anyio.to_thread.run_sync(make, limiter=self._limiter)
        self._longest_s = max(self._longest_s, time.monotonic() - begun)
        kept = self._kept[key] = Kept(page, since, number)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept
