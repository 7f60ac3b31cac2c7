"""Saying what happened: an event in the health log and a line for whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from sentinel.daemon.process import Ended
from sentinel.daemon.recording import refused
from sentinel.daemon.records import Attempt, Judged
from sentinel.health.identity import event_id
from sentinel.health.log import HealthLog
from sentinel.health.rows import EventKind, EventRow
from sentinel.repairs.recipes import Recipe

Listener = Callable[[EventRow], None]


class Teller:
    """Writes the events of one run; the same event told again replaces itself."""

    def __init__(
        self,
        log: HealthLog,
        run_id: str,
        listener: Listener,
        *,
        on_note: Callable[[str], None],
    ) -> None:
        self._log = log
        self._run_id = run_id
        self._listener = listener
        self._on_note = on_note
        self._refused = ""

    def tell(
        self,
        kind: EventKind,
        message: str,
        *,
        attempt: int,
        about: tuple[object, ...],
        checkpoint_id: str | None = None,
        rule: str | None = None,
        detail: Mapping[str, object] | None = None,
        aloud: bool = True,
    ) -> None:
        """Write one event and pass it on. ``about`` is what makes it this event and no other.

        One that is not ``aloud`` is only written: the listener does not hear of it.

        A log that cannot be written is said once and ends nothing: what is to be done is in the
        journal.
        """
        event = EventRow(
            event_id=event_id(run_id=self._run_id, attempt=attempt, kind=kind, about=about),
            run_id=self._run_id,
            attempt=attempt,
            kind=kind,
            message=message,
            at=datetime.now(UTC),
            checkpoint_id=checkpoint_id,
            rule=rule,
            detail=detail or {},
        )
        try:
            self._log.append_event(event)
        except OSError as error:
            self._refuse(str(refused(self._log, error)))
        if aloud:
            self._listener(event)

    def _refuse(self, why: str) -> None:
        if why != self._refused:
            self._on_note(why)
        self._refused = why


def ended_words(attempt: Attempt, end: Ended, newest: Judged | None, recipe: Recipe | None) -> str:
    """Return how a trainer ended: its code and what it means there, its last checkpoint."""
    meaning = recipe.exit_codes.get(end.code) if recipe and end.code is not None else None
    code = "unknown" if end.code is None else end.code
    words = [f"the trainer ended with code {code}{f' ({meaning})' if meaning else ''}"]
    words.append(
        "it wrote no checkpoint" if newest is None else f"its last checkpoint is {newest.level}"
    )
    output = attempt.plan.get("output") if attempt.plan else None
    if output and newest is not None:
        words.append(f"what it wrote since the repair lies in '{output}'")
    return "; ".join(words)
