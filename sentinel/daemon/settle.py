"""When a checkpoint may be judged: the laws of "settled", over an injected clock.

A trainer writes a checkpoint in many steps and most of them look finished for a moment. Nothing
here touches the disk: the caller looks and says what it saw, this room remembers since when
it has been so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentinel.checkpoint import Identity

SETTLE_S = 2.0
TORN_AFTER_S = 15.0

# Rounding can leave a rest too small to move the clock; nobody needs to look sooner than this.
_SHORTEST_WAIT_S = 0.01
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Settled:
    """The checkpoint may be judged.

    ``torn``: its bytes are not whole and nobody has gone on writing them. ``incomplete``: its
    layout's completion mark is missing and nobody has gone on writing it.
    """

    torn: bool = False
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """The checkpoint may not be judged yet; look again in ``again_in_s`` seconds or sooner."""

    reason: str
    again_in_s: float


@dataclass(frozen=True, slots=True)
class _Seen:
    identity: Identity
    since_s: float
    closed: bool


class Settling:
    """The checkpoints that are being written, each with the time of its last change.

    ``settle_s`` is how long a whole checkpoint without a completion mark must stay unchanged,
    ``torn_after_s`` how long one that is not whole, or lacks its layout's mark, must.
    """

    def __init__(
        self,
        *,
        settle_s: float = SETTLE_S,
        torn_after_s: float = TORN_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settle_s = settle_s
        self._torn_after_s = torn_after_s
        self._clock = clock
        self._seen: dict[Path, _Seen] = {}

    def look(
        self,
        path: Path,
        *,
        identity: Identity,
        whole: bool,
        complete: bool | None,
        closed: bool = False,
    ) -> Settled | Pending:
        """Take one look at a checkpoint and tell whether it may be judged.

        ``whole`` says that all its bytes are there, ``complete`` is the layout's mark (True
        seen, False missing, None no such mark), ``closed`` that the writers of all its members
        were seen to close them before ``identity`` was taken. A close is remembered until the
        identity changes, and every change starts the timers again.
        """
        seen = self._remember(path, identity, closed=closed)
        unchanged_s = self._clock() - seen.since_s
        if whole and complete is not False:
            if complete or seen.closed or unchanged_s >= self._settle_s:
                return Settled()
            return _pending("changed a moment ago", self._settle_s - unchanged_s)
        if unchanged_s >= self._torn_after_s:
            return Settled(torn=not whole, incomplete=complete is False)
        reason = "its completion mark is missing" if whole else "its bytes are not whole"
        # The rest may come without an event (a mapped writer), so ask more often than once.
        return _pending(reason, min(self._settle_s, self._torn_after_s - unchanged_s))

    def forget(self, path: Path) -> None:
        """Drop what is remembered of a checkpoint: judged, gone, or to be settled anew."""
        self._seen.pop(path, None)

    def _remember(self, path: Path, identity: Identity, *, closed: bool) -> _Seen:
        before = self._seen.get(path)
        if before is None or before.identity != identity:
            seen = _Seen(identity, self._clock(), closed)
        else:
            seen = _Seen(identity, before.since_s, before.closed or closed)
        self._seen[path] = seen
        return seen


def settle_wait_s(
    newest_mtime_ns: int, now_ns: int, *, complete: bool | None, settle_s: float = SETTLE_S
) -> float:
    """Return how many seconds a one-off scan waits before it judges a checkpoint.

    0 when the layout's completion mark is there or the newest member is older than
    ``settle_s``. A time in the future (another machine's clock) tells nothing about the age, so
    it asks for the whole ``settle_s``; the caller compares the identity before and after.
    """
    if complete:
        return 0.0
    age_s = (now_ns - newest_mtime_ns) / _NS_PER_S
    return settle_s if age_s < 0 else max(0.0, settle_s - age_s)


def _pending(reason: str, wait_s: float) -> Pending:
    return Pending(reason, max(wait_s, _SHORTEST_WAIT_S))
