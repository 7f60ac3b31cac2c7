"""Notices that are not delivered yet, as files: a kill loses none, and may send one twice."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from sentinel.notices.notice import Notice
from sentinel.storage import atomic_write

KEPT_S = 24 * 3600.0
"""What could not be sent for a day is told no more."""


class Outbox:
    """One directory; what cannot be written there is sent all the same, once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, notice: Notice) -> None:
        """Keep a notice until it is dropped."""
        with suppress(OSError):
            atomic_write(self._place(notice), notice.to_json())

    def drop(self, notice: Notice) -> None:
        """Forget a notice: it was delivered, or given up."""
        with suppress(OSError):
            self._place(notice).unlink(missing_ok=True)

    def left(self) -> list[Notice]:
        """Return what an earlier process could not send, oldest first, without what is too old."""
        found = []
        with suppress(OSError):
            places = sorted(self._directory.glob("*.json"), key=lambda one: one.stat().st_mtime)
            for place in places:
                notice = Notice.from_json(place.read_bytes())
                if notice is None or time.time() - place.stat().st_mtime > KEPT_S:
                    place.unlink(missing_ok=True)
                else:
                    found.append(notice)
        return found

    def _place(self, notice: Notice) -> Path:
        name = hashlib.blake2b(notice.key.encode("utf-8", "replace"), digest_size=16).hexdigest()
        return self._directory / f"{name}.json"
