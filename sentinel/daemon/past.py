"""What the journal tells about one run, for whoever plans how it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from sentinel.daemon.journal import Attempt, Journal, Judged


class Past:
    """The attempts and judged checkpoints of one run.

    ``pinned`` returns where the pin of a checkpoint lies, None when there is none.
    """

    def __init__(
        self,
        journal: Journal,
        run_id: str,
        *,
        pinned: Callable[[Judged], Path | None] = lambda _: None,
    ) -> None:
        self._journal = journal
        self._run_id = run_id
        self._pinned = pinned

    def series(self, attempt: Attempt) -> list[Attempt]:
        """Return the attempts since the user's own start, this one included."""
        series: list[Attempt] = []
        for known in self._journal.attempts(self._run_id):
            if known.attempt > attempt.attempt:
                break
            series = [known] if known.plan is None else [*series, known]
        return series

    def on_disk(self) -> list[Judged]:
        """Return the checkpoints that still lie where they were judged, oldest first.

        A name that was written again stands for its newest checkpoint only.
        """
        newest = {judged.path: judged for judged in self._journal.judged(self._run_id)}
        return sorted(filter(_lies, newest.values()), key=lambda judged: judged.seq)

    def lineage(self, attempt: Attempt) -> list[Judged]:
        """Return the checkpoints an attempt goes back to, oldest first, as far as they are left.

        Those are its own, and those of the attempts before up to the parent each began from. One
        that is gone from its place has the path of its pin, if it has one.
        """
        return self._left(self._line(attempt))

    def beside(self, path: Path) -> list[Judged]:
        """Return the checkpoints that lie, or lay and are pinned, in the directory of another."""
        judged = self._journal.judged(self._run_id)
        return self._left(one for one in judged if one.path.parent == path.parent)

    def reach(self, attempt: Attempt | None) -> Mapping[int, float]:
        """Return up to which `seq` the checkpoints of each attempt are an attempt's forebears."""
        if attempt is None:
            return {0: math.inf}
        parents = {known.attempt: known.parent for known in self._journal.attempts(self._run_id)}
        reach: dict[int, float] = {attempt.attempt: math.inf}
        end = self._parent(attempt.parent)
        while end is not None and end.attempt < min(reach):
            reach[end.attempt] = end.seq
            end = self._parent(parents.get(end.attempt))
        return reach

    def _left(self, line: Iterator[Judged]) -> list[Judged]:
        there = {judged.checkpoint_id for judged in self.on_disk()}
        left = []
        for judged in line:
            if judged.checkpoint_id in there:
                left.append(judged)
            elif (pinned := self._pinned(judged)) is not None:
                left.append(replace(judged, path=pinned))
        return left

    def _line(self, attempt: Attempt) -> Iterator[Judged]:
        parents = {known.attempt: known.parent for known in self._journal.attempts(self._run_id)}
        number, end = attempt.attempt, self._parent(attempt.parent)
        if end is not None and end.attempt < number:
            yield from self._up_to(end, parents)
        yield from self._journal.judged(self._run_id, number)

    def _up_to(self, end: Judged, parents: dict[int, str | None]) -> Iterator[Judged]:
        before = self._parent(parents.get(end.attempt))
        if before is not None and before.attempt < end.attempt:
            yield from self._up_to(before, parents)
        yield from (j for j in self._journal.judged(self._run_id, end.attempt) if j.seq <= end.seq)

    def _parent(self, checkpoint_id: str | None) -> Judged | None:
        return None if checkpoint_id is None else self._journal.checkpoint(checkpoint_id)


def _lies(judged: Judged) -> bool:
    """Tell whether a checkpoint is in its place, be it brought back from the quarantine."""
    away = judged.quarantined_to is not None and judged.quarantined_to.exists()
    return not away and judged.path.exists()
