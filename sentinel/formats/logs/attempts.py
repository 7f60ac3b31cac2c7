"""Which entries of the logs found lead to a checkpoint: never those of another run.

A log is cut into attempts where its step goes back. The last attempt that can have led to the
checkpoint counts, continued backwards by those that it resumed from. What decides is the step,
the times of the entries and, where they have none, that of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sentinel.formats.logs.entry import Entry, Log

RESUMES_LIMIT = 100
"""Attempts that one may have resumed from: each is held against all that came after it."""

SLACK_S = 600.0
"""Saving takes a while, and the clocks of two file systems differ."""

OLD_S = 86_400.0
"""A log that ended a day before the checkpoint was written is another run's."""

_COPIED_S = 300.0
"""A file written so long after its last entry was copied: its time and the checkpoint's tell
nothing (torch's writer flushes every two minutes)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The entries of one attempt of a run, in the order they were logged; never empty.

    ``until_s`` is when its last entry was logged, at the latest; ``is_last`` says that nothing
    came after it in its file, ``is_all`` that its beginning was read.
    """

    place: Path
    entries: tuple[Entry, ...]
    is_timed: bool
    is_copied: bool
    until_s: float
    is_all: bool

    @property
    def first(self) -> int:
        """Return the first step."""
        return self.entries[0].step

    @property
    def began_s(self) -> float:
        """Return when it began; where nothing tells, when its file was last written."""
        at_s = self.entries[0].at_s
        return self.until_s if at_s is None else at_s


def leading_to(logs: Sequence[Log], step: int | None, written_s: float) -> tuple[Entry, ...]:
    """Return the entries up to a checkpoint's step, in the order of their steps.

    ``written_s`` is when the newest file of the checkpoint was written. Nothing is returned when
    no attempt fits, or when two that fit ran at the same time.
    """
    attempts = [attempt for log in logs for attempt in _attempts(log)]
    if all(attempt.is_timed for attempt in attempts):
        attempts.sort(key=lambda attempt: attempt.began_s)
    fitting = [number for number, one in enumerate(attempts) if _fits(one, step, written_s)]
    if not fitting:
        return ()
    last = fitting[-1]
    if any(_at_once(attempts[number], attempts[last]) for number in fitting[:-1]):
        return ()
    entries = _before(attempts[last], step, written_s)
    for earlier in reversed(attempts[max(0, last - RESUMES_LIMIT) : last]):
        if not _is_resumed(attempts[last], entries):
            break
        head = _before(earlier, entries[0].step - 1, written_s)
        if not head or entries[0].step - head[-1].step > max(_gap(head), _gap(entries)):
            break
        if _at_once(earlier, attempts[last]):
            break
        entries = head + entries
    newest = {(entry.step, entry.name): entry for entry in entries}
    return tuple(sorted(newest.values(), key=lambda entry: entry.step))


def _attempts(log: Log) -> list[Attempt]:
    pieces: list[list[Entry]] = []
    step = -1
    for entry in log.entries:
        if entry.step < step or not pieces:
            pieces.append([])
        pieces[-1].append(entry)
        step = entry.step
    times = [entry.at_s for entry in log.entries if entry.at_s is not None]
    is_timed = len(times) == len(log.entries)
    return [
        Attempt(
            place=log.path.parent,
            entries=tuple(piece),
            is_timed=is_timed,
            is_copied=is_timed and log.modified_s - max(times) > _COPIED_S,
            until_s=max(entry.at_s or 0.0 for entry in piece) if is_timed else log.modified_s,
            is_all=log.is_all or number > 0,
        )
        for number, piece in enumerate(pieces)
    ]


def _before(attempt: Attempt, step: int | None, written_s: float) -> tuple[Entry, ...]:
    """Return the entries up to a step that were logged before the checkpoint was written."""
    return tuple(
        entry
        for entry in attempt.entries
        if (step is None or entry.step <= step)
        and (entry.at_s is None or entry.at_s <= written_s + SLACK_S)
    )


def _fits(attempt: Attempt, step: int | None, written_s: float) -> bool:
    """Tell whether an attempt can have led to a checkpoint of a step, written at a time."""
    entries = _before(attempt, step, written_s)
    if not entries:
        return False
    if step is not None and step - entries[-1].step > _gap(entries):
        return False
    if attempt.is_copied:
        return True
    if not attempt.is_timed:
        passed = step is not None and attempt.entries[-1].step > step
        earliest_s = written_s - (SLACK_S if passed else OLD_S)
        # Without steps only one that had ended by then is surely not ahead of the checkpoint.
        latest_s = written_s + SLACK_S if step is None else float("inf")
        return earliest_s <= attempt.until_s <= latest_s
    if (entries[-1].at_s or 0.0) < written_s - OLD_S:
        return False
    later = (entry.at_s for entry in attempt.entries if step is not None and entry.step > step)
    return next((at_s or 0.0 for at_s in later), written_s) >= written_s - SLACK_S


def _gap(entries: Sequence[Entry]) -> int:
    """Return the longest way from one logged step to the next; of one step, that step."""
    gaps = (after.step - before.step for before, after in pairwise(entries))
    return max(gaps, default=0) or entries[0].step


def _is_resumed(last: Attempt, entries: Sequence[Entry]) -> bool:
    """Tell whether entries begin further on than a fresh start would."""
    gaps = max((after.step - before.step for before, after in pairwise(entries)), default=0)
    return last.is_all and 0 < gaps < entries[0].step


def _at_once(one: Attempt, other: Attempt) -> bool:
    """Tell whether two attempts ran at the same time; without times they are of one file."""
    if not (one.is_timed and other.is_timed):
        return one.place != other.place
    return one.began_s < other.until_s and other.began_s < one.until_s
