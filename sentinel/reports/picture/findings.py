"""The findings of a run, each rule once: what, when, why, and the command that helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sentinel.health.rows import EventRow
from sentinel.reports.facts import counted
from sentinel.reports.picture.commands import Command, commands_for
from sentinel.reports.picture.told import Told
from sentinel.reports.picture.verdicts import plan_of, proof_of
from sentinel.reports.words import remedy_words, shown
from sentinel.rules.rule import Rule

_GRAVITY: Mapping[str | None, int] = {"critical": 0, "unreadable": 1, "warning": 2, "info": 3}


@dataclass(frozen=True, slots=True)
class FindingStory:
    """All findings of one rule in a run, safe to show.

    ``status`` is `open` where the newest checkpoint has it, else `repaired` or `past`; texts of
    the rule's page are "" for a rule that is not known here.
    """

    rule: str
    title: str
    severity: str
    status: str
    when: str
    message: str
    tensors: tuple[str, ...]
    more_tensors: int
    what: str
    why: str
    fix: str
    sources: tuple[str, ...]
    remedy: str
    commands: tuple[Command, ...]

    @property
    def is_grave(self) -> bool:
        """Tell whether it ought to be read first: critical, or a warning that still holds."""
        if self.severity in {"critical", "unreadable"}:
            return True
        return self.status == "open" and self.severity == "warning"


def finding_stories(
    run: Told, rules: Mapping[str, Rule], options: Sequence[str]
) -> list[FindingStory]:
    """Return one story a rule: the open ones first, then by gravity, then what a reason says.

    ``options`` are those that commands need to find the run's state.
    """
    by_rule: dict[str, list[EventRow]] = {}
    for event in run.events:
        if event.kind == "finding" and event.rule:
            by_rule.setdefault(event.rule, []).append(event)
    stories = [
        _story(run, rule, events, rules.get(rule), options) for rule, events in by_rule.items()
    ]
    reasons = {shown(row.reason) for row in run.rows if row.reason}
    return sorted(
        stories,
        key=lambda one: (
            one.status != "open",
            _GRAVITY.get(one.severity, 9),
            one.message not in reasons,
            one.status != "repaired",
        ),
    )


def _story(
    run: Told, rule: str, events: Sequence[EventRow], page: Rule | None, options: Sequence[str]
) -> FindingStory:
    # The gravest says most; of equal ones the last is nearest to what lies there now.
    event = min(reversed(events), key=lambda one: _GRAVITY.get(one.severity, 9))
    status = _status(run, rule, events)
    count = event.detail.get("tensor_count")
    known = count if isinstance(count, int) else len(event.tensors)
    return FindingStory(
        rule=shown(rule),
        title=shown(page.title) if page else "",
        severity=event.severity or "info",
        status=status,
        when=_when(run, events),
        message=shown(event.message),
        tensors=tuple(map(shown, event.tensors)),
        more_tensors=max(0, known - len(event.tensors)),
        what=shown(page.page.what) if page else "",
        why=shown(page.page.why) if page else "",
        fix=shown(page.page.fix) if page else "",
        sources=tuple(map(shown, page.page.sources)) if page else (),
        remedy=shown(remedy_words(event.remedy or {})),
        commands=commands_for(run, event, options) if status == "open" else (),
    )


def _status(run: Told, rule: str, events: Sequence[EventRow]) -> str:
    newest = run.newest
    before = [one for one in events if not one.checkpoint_id]
    if newest is None or any(one.checkpoint_id == newest.checkpoint_id for one in events):
        return "open"
    if before and len(before) == len(events) and before[-1].attempt == run.attempts[-1]:
        return "open"  # said before step 1 of the attempt that runs
    for begun, attempt in pairwise(run.attempts):
        plan, proof = plan_of(run, begun), proof_of(run, attempt)
        asked = plan.detail.get("rules") if plan else None
        if isinstance(asked, list) and rule in asked and proof is not None:
            return "repaired" if proof.detail.get("result") == "fixed" else "past"
    return "past"


def _when(run: Told, events: Sequence[EventRow]) -> str:
    """Return in which checkpoints, attempt by attempt."""
    parts = []
    for attempt in sorted({event.attempt for event in events}):
        ours = [event for event in events if event.attempt == attempt]
        rows = [row for one in ours if (row := run.by_id.get(one.checkpoint_id or ""))]
        steps = sorted(row.step for row in rows if row.step is not None)
        many = counted(len({row.checkpoint_id for row in rows}), "checkpoint")
        where = f"attempt {attempt}: {many}" if rows else f"before step 1 of attempt {attempt}"
        if steps:
            where += f", step {steps[0]}" + (f" to {steps[-1]}" if len(steps) > 1 else "")
        parts.append(where)
    return "; ".join(parts)
