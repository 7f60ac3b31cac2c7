"""Who is told that runs have changed: one look at the log for all browsers that are open."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable

MOST_STREAMS = 64
"""Streams that may be open at a time; each is a socket and a few kilobytes."""

HEARTBEAT_S = 15.0
"""So often a stream says something, or a proxy takes it for dead."""

_REMEMBERED = 256


class TooManyStreamsError(Exception):
    """There is no room for another stream."""


class News:
    """Numbers the changes of a log, and tells them to whoever listens.

    Everything but `since` is called in the event loop's thread. ``boot`` tells one server from the
    next on the same address.
    """

    def __init__(self, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.boot = secrets.token_hex(4)
        self._heartbeat_s = heartbeat_s
        self._number = 0
        self._past: deque[tuple[int, frozenset[str]]] = deque(maxlen=_REMEMBERED)
        self._last: dict[str, int] = {}
        self._wake = asyncio.Condition()
        self._ended = False
        self._streams = 0

    @property
    def number(self) -> int:
        """Return how often something changed since the start."""
        return self._number

    @property
    def streams(self) -> int:
        """Return how many streams are open."""
        return self._streams

    @property
    def since(self) -> str:
        """Return the name of this moment, from which a stream may begin later."""
        return f"{self.boot}-{self._number}"

    def version(self, watches: str) -> int:
        """Return when what a page watches changed last: a run, "*" for any, "" for nothing."""
        if watches == "*":
            return self._number
        return self._last.get(watches, 0) if watches else 0

    async def publish(self, runs: Iterable[str]) -> None:
        """Tell everybody that some runs have changed."""
        async with self._wake:
            self._number += 1
            changed = frozenset(runs)
            self._past.append((self._number, changed))
            self._last.update(dict.fromkeys(changed, self._number))
            self._wake.notify_all()

    async def end(self) -> None:
        """End all streams, and every one that is opened later."""
        async with self._wake:
            self._ended = True
            self._wake.notify_all()

    def open(self, since: str) -> AsyncIterator[tuple[str, frozenset[str] | None] | None]:
        """Return a stream of names of moments and the runs that changed up to them.

        It begins with what was missed since ``since``; None in place of runs means that it is not
        known what was missed. A None by itself is a heartbeat. Raises TooManyStreamsError.
        """
        if self._streams >= MOST_STREAMS:
            raise TooManyStreamsError
        self._streams += 1
        return self._stream(since)

    async def _stream(self, since: str) -> AsyncIterator[tuple[str, frozenset[str] | None] | None]:
        try:
            boot, _, told = since.partition("-")
            is_ours = boot == self.boot and told.isascii() and told.isdecimal()
            seen = int(told[:12]) if is_ours else -1
            yield None
            while not self._ended:
                if seen != self._number:
                    missed, seen = self._missed(seen), self._number
                    yield self.since, missed
                elif not await self._woken(seen):
                    yield None
        finally:
            self._streams -= 1

    def _missed(self, seen: int) -> frozenset[str] | None:
        known = [runs for number, runs in self._past if number > seen]
        if seen < 0 or len(known) != self._number - seen:
            return None
        return frozenset[str]().union(*known)

    async def _woken(self, seen: int) -> bool:
        """Wait until there is something new or all ends; False when a heartbeat is due first."""
        try:
            async with asyncio.timeout(self._heartbeat_s), self._wake:
                await self._wake.wait_for(lambda: self._ended or self._number != seen)
        except TimeoutError:
            return False
        return True
