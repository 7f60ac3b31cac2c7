"""From what the daemon tells to what is worth a message: run, step, what, since when, what is done.

A checkpoint that shows what the one before it showed is no news: told is where a run turns bad,
where another rule joins, and where it is good again.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from sentinel.alerting import Occasion
from sentinel.checkpoint import path_text
from sentinel.daemon.journal import Journal, Judged
from sentinel.daemon.recording import Outcome
from sentinel.daemon.written import written_s
from sentinel.health.rows import CheckpointRow, EventRow
from sentinel.metrics.tally import HUNG_DETAIL, name_of
from sentinel.notices.notice import Notice
from sentinel.reports.words import shown
from sentinel.verdict import Finding

Does = Callable[[Iterable[Finding]], str]
"""What sentinel does by itself about findings, in a sentence."""

_PAST = 50
_WHAT_CHARACTERS = 600
_MINUTE_S, _HOUR_S = 60, 3600


class Noticing:
    """An observer that puts notices of the wanted occasions."""

    def __init__(
        self,
        events: Sequence[Occasion],
        put: Callable[[Notice], None],
        *,
        journal: Journal,
        state: Path,
        does: Does,
    ) -> None:
        self._events = frozenset(events)
        self._put = put
        self._journal = journal
        self._state = state
        self._does = does
        self._names: dict[str, str] = {}

    def judged(self, outcome: Outcome, _written_s: float | None) -> None:
        """Tell of a verdict where it is another than the one before it."""
        row, verdict = outcome.row, outcome.judgement.verdict
        past = self._journal.newest(row.run_id, row.attempt, limit=_PAST)[1:]
        before = past[0] if past else None
        if verdict.level == "healthy" and not self._was_told(past):
            return
        ours = {found.rule for found in verdict.findings}
        if before and before.level == verdict.level and ours <= _rules(before):
            return
        self._tell(
            verdict.level,
            row.run_id,
            key=row.checkpoint_id,
            step=_step(row.step, Path(row.path)),
            what=_what(verdict.findings) or "nothing was found",
            since=_since(past, row),
            does=self._does(verdict.findings) if verdict.findings else "goes on watching",
            look=self._look(row.run_id),
            checkpoint=row.path,
        )

    def told(self, event: EventRow) -> None:
        """Tell of a plan, of what came of it, of a hang, and of an end."""
        detail = event.detail
        if event.kind == "plan":
            step = detail.get("target_step")
            does = f"starts the training again from {f'step {step}' if step else 'the beginning'}"
            changes = [str(detail[name]) for name in ("precision", "compute") if detail.get(name)]
            does += f" in {', '.join(changes)}" if changes else ""
            rule = f"{event.rule}: " if event.rule else ""
            self._event("repair", event, what=f"{rule}{event.message}", does=does)
        elif "result" in detail:
            self._event("outcome", event, what=event.message, does="goes on watching")
        elif HUNG_DETAIL in detail:
            what, _, does = event.message.partition("; ")
            self._event("hang", event, what=what, does=does or "reports only")
        elif detail.get("end") in {"ended", "interrupted"}:
            self._event("ended", event, what=event.message, does="has ended, too")
        elif "end" in detail:
            does = "has ended, too; `sentinel resume --dry-run` tells how it would go on"
            self._event("gave_up", event, what=event.message, does=does)

    def _was_told(self, past: Sequence[Judged]) -> bool:
        """Tell whether something bad since the last healthy checkpoint was worth a message."""
        bad = takewhile(lambda judged: judged.level != "healthy", past)
        return any(judged.level in self._events for judged in bad)

    def _event(self, occasion: Occasion, event: EventRow, *, what: str, does: str) -> None:
        past = self._journal.newest(event.run_id, event.attempt, limit=1)
        self._tell(
            occasion,
            event.run_id,
            key=f"{event.event_id}:{what}",
            step=_step(past[0].step, past[0].path) if past else "the start",
            what=what,
            since=f"{_clock(event.at)}, attempt {event.attempt}",
            does=does,
            look=self._look(event.run_id),
        )

    def _tell(self, occasion: Occasion, run_id: str, *, checkpoint: str = "", **words: str) -> None:
        if occasion not in self._events:
            return
        words["what"] = _harmless(_short(words["what"]))
        self._put(
            Notice(
                occasion=occasion,
                run_id=run_id,
                run=self._name(run_id),
                at=_clock(datetime.now(UTC)),
                checkpoint=checkpoint,
                **words,
            )
        )

    def _name(self, run_id: str) -> str:
        if run_id not in self._names:
            self._names = {key: name_of(roots[0]) for key, roots in self._journal.runs().items()}
        return self._names.get(run_id, run_id)

    def _look(self, run_id: str) -> str:
        return shlex.join(["sentinel", "log", run_id, "--state", path_text(self._state)])


def _harmless(text: str) -> str:
    """Return a text whose names of tensors neither steer a terminal nor call a whole channel."""
    return shown(text).replace("@", "@\u200b")


def _rules(judged: Judged) -> set[str]:
    return {found.rule for found in judged.findings}


def _what(findings: Sequence[Finding]) -> str:
    """Return the gravest finding, and how many others there are."""
    if not findings:
        return ""
    first = f"{findings[0].rule}: {findings[0].message}"
    more = len(findings) - 1
    return f"{_short(first)} (and {more} more finding{'s' if more > 1 else ''})" if more else first


def _since(past: Sequence[Judged], row: CheckpointRow) -> str:
    """Return where the run was last good: what lies between is lost by a resume from there."""
    good = next((judged for judged in past if judged.level == "healthy"), None)
    if good is None:
        return "no checkpoint of this attempt was healthy" if past else "its first checkpoint"
    at_s = written_s(good.quarantined_to or good.path)
    ago = "" if at_s is None else f", written {_ago(row.judged_at.timestamp() - at_s)} before"
    return f"the last healthy one is {_step(good.step, good.path)}{ago}"


def _ago(seconds: float) -> str:
    if seconds < 2 * _MINUTE_S:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h"


def _step(step: int | None, path: Path) -> str:
    return f"step {step}" if step is not None else path_text(path.name)


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _short(text: str) -> str:
    return text if len(text) <= _WHAT_CHARACTERS else f"{text[:_WHAT_CHARACTERS]}..."
