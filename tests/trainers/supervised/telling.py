"""What a supervised training came to, out of sentinel's own log: no word of the trainer's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sentinel.daemon.journal import Journal
from sentinel.health.reading import RunLog, read_run
from sentinel.health.rows import EventRow

_CHANGED = re.compile(r"[-+](?![-+]{2} )(.*)")
_OF_PLANS = ("target_step", "precision", "compute", "settings", "optimizer", "steps_lost")


def told(state: Path, place: Path) -> dict[str, object]:
    """Return what the log holds of the one run in a state directory, attempt by attempt."""
    journal = Journal(state / "journal.sqlite")
    try:
        (run_id,) = journal.runs()
    finally:
        journal.close()
    log = read_run(state / "health", run_id)
    attempts = sorted({event.attempt for event in log.events if event.attempt})
    return {"attempts": [_attempt(log, number, place) for number in attempts]}


def _attempt(log: RunLog, number: int, place: Path) -> dict[str, object]:
    rows = [row for row in log.checkpoints if row.attempt == number]
    events = [event for event in log.events if event.attempt == number]
    facts = {
        "changed": [line for event in events for line in _changes(event, place)],
        "steps": [row.step for row in rows if row.step is not None],
        "verdicts": sorted({row.verdict for row in rows}),
        "found": sorted({found for event in events for found in _found(event, rows)}),
        "plan": next((_plan(event) for event in events if event.kind == "plan"), None),
        "proofs": _proofs(events),
        "stopped": any("stopped the trainer" in event.message for event in events),
    }
    return {name: value for name, value in facts.items() if value not in ([], None, False)}


def _changes(event: EventRow, place: Path) -> Iterator[str]:
    diff = str(event.detail.get("diff", ""))
    for line in diff.splitlines():
        if _CHANGED.fullmatch(line) and re.search(r"\w", line):
            yield re.sub(r"\s+", " ", line.replace(f"{place}/", ""))


def _found(event: EventRow, rows: Sequence[object]) -> Iterator[str]:
    if event.rule and event.severity in {"critical", "warning"} and event.checkpoint_id:
        step = next((row.step for row in rows if row.checkpoint_id == event.checkpoint_id), None)
        yield f"{event.severity} {event.rule} at step {step}"


def _plan(event: EventRow) -> dict[str, object]:
    plan = {name: event.detail.get(name) for name in _OF_PLANS}
    return {name: value for name, value in plan.items() if value not in (None, {})}


def _proofs(events: Sequence[EventRow]) -> list[str]:
    """Return what was proved, each once: it is said again when the training has ended."""
    found = (str(event.detail["result"]) for event in events if "result" in event.detail)
    return list(dict.fromkeys(found))
