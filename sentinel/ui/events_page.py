"""Everything that happened, the newest first: findings, plans, actions, outcomes, attempts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sentinel.reports.words import shown
from sentinel.ui.look import Look
from sentinel.ui.pages import PAGE_SIZE, Asked, Page, Pager, Part

PARAMETERS = ("kind", "severity", "run", "rule", "q")
KINDS = ("finding", "plan", "action", "outcome", "attempt")
SEVERITIES = ("critical", "unreadable", "warning", "info")

_EVENTS = """
SELECT event_id, run_id, attempt, checkpoint_id, kind, rule, severity, message, events.at AS moment,
       count(*) OVER () AS total
FROM events
WHERE (? = '' OR kind = ?) AND (? = '' OR severity = ?) AND (? = '' OR starts_with(run_id, ?))
  AND (? = '' OR rule = ?) AND (? = '' OR contains(lower(message), lower(?)))
ORDER BY events.at DESC, event_id
LIMIT ? OFFSET ?
"""


@dataclass(frozen=True, slots=True)
class EventLine:
    """One event, safe to show; ``checkpoint_id`` and ``rule`` are "" where it has none."""

    moment: datetime
    run_id: str
    attempt: int
    checkpoint_id: str
    kind: str
    rule: str
    severity: str
    message: str


def events_page(look: Look, asked: Asked) -> Page:
    """Return the page of events that the filters leave."""
    kind, severity = asked.choice("kind", KINDS), asked.choice("severity", SEVERITIES)
    filters = (kind, severity, asked["run"], asked["rule"], asked["q"])
    twice = [value for one in filters for value in (one, one)]
    found = look.ask(_EVENTS, *twice, PAGE_SIZE, asked.offset)
    lines = [
        EventLine(
            moment=row["moment"],
            run_id=shown(row["run_id"] or ""),
            attempt=row["attempt"],
            checkpoint_id=shown(row["checkpoint_id"] or ""),
            kind=shown(row["kind"] or ""),
            rule=shown(row["rule"] or ""),
            severity=shown(row["severity"] or ""),
            message=shown(row["message"] or ""),
        )
        for row in found
    ]
    pager = Pager.of(asked, len(lines), found[0]["total"] if found else 0)
    controls = look.render("events_filter.html", asked=asked, kinds=KINDS, severities=SEVERITIES)
    table = look.render("events.html", lines=lines, pager=pager, asked=asked)
    parts = (Part("controls", controls), Part("events", table))
    return Page("Events", "events", parts, watches="*")
