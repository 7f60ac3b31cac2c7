"""What the journal holds of a run, counted: where its metrics begin after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sentinel.daemon.journal import Attempt, Journal
from sentinel.daemon.written import written_s
from sentinel.errors import SentinelError
from sentinel.health.query import fetch, read
from sentinel.health.reading import event_rows
from sentinel.health.rows import EventRow
from sentinel.metrics.tally import RunState, RunTally, name_of

_OUTCOMES = "SELECT * FROM events WHERE run_id = ? AND kind = 'outcome' ORDER BY events.at"
"""What only the log keeps: what became of repairs, hangs, and how a run ended."""

_STATES: Mapping[str | None, RunState] = {
    "ended": "ended",
    "faulty": "ended_faulty",
    "interrupted": "interrupted",
}


def tally_of(journal: Journal, log: Path, run_id: str, roots: tuple[Path, ...]) -> RunTally:
    """Return the numbers of a run as they stand."""
    tally = RunTally(name_of(roots[0] if roots else None), roots)
    for judged in journal.judged(run_id):
        tally.verdicts[judged.level] += 1
        tally.findings.update((found.rule, found.severity) for found in judged.findings)
        tally.level, tally.step = judged.level, judged.step
        tally.loss = tally.loss if judged.loss is None else judged.loss
        tally.place, lies = judged.path.parent, judged.quarantined_to or judged.path
    if tally.place is not None:
        tally.written_s = written_s(lies)
    attempts = journal.attempts(run_id)
    tally.attempts = max((one.attempt for one in attempts), default=0)
    if any(one.command for one in attempts):
        _supervised(tally, attempts, log, run_id)
    return tally


def _supervised(tally: RunTally, attempts: tuple[Attempt, ...], log: Path, run_id: str) -> None:
    tally.repaired = {one.attempt - 1 for one in attempts if one.plan}
    for event in _outcomes(log, run_id):
        tally.told(event)
    last = attempts[-1]
    if last.state != "ended":
        tally.state = "training"
    elif tally.state in {None, "training"}:
        tally.state = _STATES.get(last.outcome, "ended")


def _outcomes(log: Path, run_id: str) -> Iterator[EventRow]:
    """Yield what the health log holds of ends and proofs; one that cannot be read holds none."""
    try:
        table = read(log, lambda connection: fetch(connection, _OUTCOMES, (run_id,)))
    except (SentinelError, OSError):
        return
    yield from event_rows(table)
