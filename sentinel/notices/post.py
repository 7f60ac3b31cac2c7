"""The thread that sends messages: whoever gives it a notice goes on at once.

A delivery runs in a process of its own and is killed when it takes too long. One that fails is
tried again, later and later, and given up with a sentence; others are not kept waiting by it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinel.alerting import Notify
from sentinel.engines.isolated import IsolatedWorker
from sentinel.errors import SentinelError
from sentinel.notices.delivering import Delivery, deliver
from sentinel.notices.notice import Message, Notice, message_of
from sentinel.notices.outbox import Outbox
from sentinel.notices.pace import Pace
from sentinel.priority import Priority

AGAIN_S = (5.0, 30.0, 120.0)
"""Pauses before a delivery is tried again; after the last it is given up."""

END_S = 15.0
"""So long an end of the daemon waits for what is not sent yet."""

_PRIORITY = Priority(nice=10)
_LEFT = "a message could not be sent, and is kept for the next start"


@dataclass(frozen=True, slots=True)
class _Letter:
    """A message on its way to one address; ``tries`` that failed, ``due_s`` for the next."""

    url: str
    message: Message
    notices: tuple[Notice, ...]
    tries: int
    due_s: float


class Post:
    """Messages of one daemon. `put` and `close` belong to its thread, the rest to another."""

    def __init__(
        self,
        settings: Notify,
        urls: Sequence[str],
        *,
        outbox: Outbox,
        log: Path,
        on_note: Callable[[str], None],
        again_s: Sequence[float] = AGAIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._urls = tuple(urls)
        self._outbox = outbox
        self._log = log if settings.picture else None
        self._on_note = on_note
        self._again_s = tuple(again_s)
        self._clock = clock
        self._pace = Pace(group_s=settings.group_s, per_hour=settings.per_hour)
        self._changed = threading.Condition()
        self._waiting: list[Notice] = []
        self._first_s = 0.0
        self._letters: list[_Letter] = []
        self._open: dict[str, int] = {}
        self._told: set[str] = set()
        self._closing = False
        self._why = ""
        self._worker = IsolatedWorker(priority=_PRIORITY)
        self._thread = threading.Thread(target=self._work, name="notices", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        for notice in self._outbox.left():
            self._wait(notice)
        self._thread.start()

    def put(self, notice: Notice) -> None:
        """Take a notice; it is kept on the disk until it is sent."""
        self._outbox.put(notice)
        with self._changed:
            self._wait(notice)
            self._changed.notify()

    def close(self) -> None:
        """Send what waits, within a time; the rest is sent by the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(END_S)
        if self._thread.is_alive():
            self._on_note(f"{_LEFT}: it takes too long")
        else:
            self._worker.close()

    def _wait(self, notice: Notice) -> None:
        if not self._waiting:
            self._first_s = self._clock()
        self._waiting.append(notice)

    def _work(self) -> None:
        while True:
            with self._changed:
                while (pause_s := self._pause_s()) > 0 and not self._closing:
                    self._changed.wait(min(pause_s, threading.TIMEOUT_MAX))
                is_last = self._closing
                if self._waiting and (is_last or self._group_due_s() <= self._clock()):
                    self._gather()
            now_s = self._clock()
            due = [one for one in self._letters if one.due_s <= now_s]
            self._letters = [one for one in self._letters if one.due_s > now_s]
            for letter in sorted(due, key=lambda one: one.tries):
                self._send(letter)
            if is_last and not self._waiting:
                if self._letters:
                    self._on_note(f"{_LEFT}: {self._why}")
                return

    def _pause_s(self) -> float:
        due = [letter.due_s for letter in self._letters]
        due += [self._group_due_s()] if self._waiting else []
        return min(due, default=float("inf")) - self._clock()

    def _group_due_s(self) -> float:
        return self._pace.due_s(self._first_s)

    def _gather(self) -> None:
        """Make what waits one message to each address."""
        notices, self._waiting = tuple(self._waiting), []
        now_s = self._clock()
        self._pace.sent(now_s)
        message = message_of(notices, self._settings)
        for notice in notices:
            self._open[notice.key] = self._open.get(notice.key, 0) + len(self._urls)
        self._letters += [_Letter(url, message, notices, 0, now_s) for url in self._urls]

    def _send(self, letter: _Letter) -> None:
        done = self._delivered(letter)
        if not done.why:
            self._told.discard(done.shown)
            self._over(letter)
            return
        self._why = f"{done.shown}: {done.why}"
        if letter.tries < len(self._again_s):
            due_s = self._clock() + self._again_s[letter.tries]
            self._letters.append(
                _Letter(letter.url, letter.message, letter.notices, letter.tries + 1, due_s)
            )
            return
        if done.shown not in self._told:
            tries = letter.tries + 1
            self._on_note(f"no message to {done.shown} after {tries} tries: {done.why}")
        self._told.add(done.shown)
        self._over(letter)

    def _delivered(self, letter: _Letter) -> Delivery:
        try:
            return self._worker.call(
                deliver, letter.url, letter.message, self._log, timeout_s=self._settings.timeout_s
            )
        except SentinelError as error:
            return Delivery(f"{letter.url.partition(':')[0]}://...", error.fact)
        except Exception as error:  # noqa: BLE001 - a plugin may raise whatever it likes
            return Delivery(f"{letter.url.partition(':')[0]}://...", type(error).__name__)

    def _over(self, letter: _Letter) -> None:
        """Forget the notices that every address has, or will not get."""
        for notice in letter.notices:
            self._open[notice.key] -= 1
            if not self._open[notice.key]:
                del self._open[notice.key]
                self._outbox.drop(notice)
