"""Sending one message to one address by apprise.

It runs in a process of its own, which may hang and be killed; only there apprise is imported.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sentinel.notices.addresses import scrubbed
from sentinel.notices.notice import Message

_REASON_CHARACTERS = 300
_LEVEL_WORDS = " - WARNING - "


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of it: ``shown`` is the address without its secrets, ``why`` is empty when sent."""

    shown: str
    why: str = ""


def deliver(url: str, message: Message, log: Path | None) -> Delivery:
    """Send a message, with the pictures of its run where ``log`` is the health log."""
    import apprise  # noqa: PLC0415 - an extra, and nothing for the process that calls

    from sentinel.notices.picture import pictures_of  # noqa: PLC0415 - neither is this

    capture: Any = apprise.LogCapture
    target = apprise.Apprise.instantiate(url)
    if target is None:
        return Delivery(f"{urlsplit(url).scheme}://...", "is no address that apprise knows")
    shown = _shown(target)
    one = apprise.Apprise()
    one.add(target)
    kind = apprise.NotifyType.SUCCESS if message.is_good else apprise.NotifyType.FAILURE
    with tempfile.TemporaryDirectory() as place, capture(level=logging.WARNING) as said:
        pictures: list[Path] = []
        if log is not None and message.run_id is not None and target.attachment_support:
            pictures = pictures_of(log, message.run_id, Path(place))
        sent = one.notify(
            body=message.body,
            title=message.title,
            notify_type=kind,
            body_format=apprise.NotifyFormat.TEXT,
            attach=[str(picture) for picture in pictures] or None,
        )
        reasons = said.getvalue().strip().splitlines()
    if sent:
        return Delivery(shown)
    why = reasons[0].partition(_LEVEL_WORDS)[2] if reasons else "it was refused"
    return Delivery(shown, scrubbed(why, url, shown)[:_REASON_CHARACTERS].rstrip("."))


def _shown(target: Any) -> str:
    """Return scheme and host as apprise shows them in private; a path may be a secret."""
    parts = urlsplit(target.url(privacy=True))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
