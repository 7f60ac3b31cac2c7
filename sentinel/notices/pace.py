"""When the next message may go: grouped, and so many an hour at most."""

from __future__ import annotations

from collections import deque

HOUR_S = 3600.0


class Pace:
    """Times in seconds of any one clock."""

    def __init__(self, *, group_s: float, per_hour: int) -> None:
        self._group_s = group_s
        self._per_hour = per_hour
        self._sent: deque[float] = deque()

    def due_s(self, first_s: float) -> float:
        """Return when a message may go whose first occasion came at ``first_s``.

        It waits for others to come in the same group, and until an hour has fewer messages than
        are allowed.
        """
        grouped_s = first_s + self._group_s
        if len(self._sent) < self._per_hour:
            return grouped_s
        return max(grouped_s, self._sent[-self._per_hour] + HOUR_S)

    def sent(self, at_s: float) -> None:
        """Count a message."""
        self._sent.append(at_s)
        while len(self._sent) > self._per_hour:
            self._sent.popleft()
