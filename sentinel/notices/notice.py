"""One occasion to tell somebody something, as a value that survives a restart as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sentinel.alerting import Notify, Occasion, filled

SHOWN = 8
"""So many occasions stand in one message; of more the number is told."""

_WORDS: dict[Occasion, str] = {
    "faulty": "faulty",
    "unreadable": "unreadable",
    "suspect": "suspect",
    "healthy": "healthy again",
    "repair": "repair begun",
    "outcome": "repair",
    "gave_up": "ended, nothing trains",
    "hang": "hangs",
    "ended": "ended",
}
_GRAVEST: tuple[Occasion, ...] = (
    "gave_up", "hang", "faulty", "unreadable", "repair", "outcome", "suspect", "healthy", "ended",
)  # fmt: skip
_GOOD = frozenset({"healthy", "ended"})


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened to a run, in the words of a message.

    ``key`` is what makes it this and no other, ``since`` when it began, ``does`` what sentinel
    does or did about it, ``look`` the command that tells more, ``at`` the time in UTC.
    """

    key: str
    occasion: Occasion
    run_id: str
    run: str
    step: str
    what: str
    since: str
    does: str
    look: str
    at: str
    checkpoint: str = ""

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Notice | None:
        """Return what `to_json` wrote, None for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: plain text. ``run_id`` is the run whose picture goes with it."""

    title: str
    body: str
    is_good: bool
    run_id: str | None = None


def message_of(notices: Sequence[Notice], settings: Notify) -> Message:
    """Return one message about one or more occasions, the gravest in its title."""
    first = min(notices, key=lambda one: _GRAVEST.index(one.occasion))
    title = filled(settings.title, _values(first))
    more = len(notices) - 1
    shown = [filled(settings.template, _values(one)) for one in notices[:SHOWN]]
    if len(notices) > SHOWN:
        shown.append(f"and {len(notices) - SHOWN} more; `sentinel log` lists them all")
    return Message(
        title=f"sentinel: {title}{f' (and {more} more)' if more else ''}",
        body="\n\n".join(shown),
        is_good=all(one.occasion in _GOOD for one in notices),
        run_id=first.run_id,
    )


def example() -> Notice:
    """Return what a test message says."""
    return Notice(
        key="test",
        occasion="faulty",
        run_id="00000000-0000-0000-0000-000000000000",
        run="example/out",
        step="step 500",
        what="this is a test: nothing is wrong",
        since="now",
        does="sends this to show that messages arrive",
        look="sentinel log",
        at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        checkpoint="out/checkpoint-500",
    )


def _values(notice: Notice) -> dict[str, str]:
    return {**asdict(notice), "occasion": _WORDS[notice.occasion]}
