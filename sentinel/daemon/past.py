"""What the journal tells about one run, for whoever plans how it goes on."""

from __future__ import annotations

from collections.abc import Iterator

from sentinel.daemon.journal import Attempt, Journal, Judged


class Past:
    """The attempts and judged checkpoints of one run."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal = journal
        self._run_id = run_id

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
        there = (j for j in newest.values() if j.quarantined_to is None and j.path.exists())
        return sorted(there, key=lambda judged: judged.seq)

    def lineage(self, attempt: Attempt) -> list[Judged]:
        """Return the checkpoints an attempt goes back to, oldest first, as far as they lie there.

        Those are its own, and those of the attempts before up to the parent each began from.
        """
        there = {judged.checkpoint_id for judged in self.on_disk()}
        return [judged for judged in self._line(attempt) if judged.checkpoint_id in there]

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
