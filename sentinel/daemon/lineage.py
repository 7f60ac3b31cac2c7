"""The checkpoint before another one: the history that a verdict may look back at.

History follows the attempt and its parent, never a path or a time: after a rollback to step 300
step 400 comes again and is another checkpoint.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from sentinel.checkpoint import Checkpoint
from sentinel.daemon.candidates import identity_or_own
from sentinel.daemon.journal import Journal, Judged
from sentinel.daemon.recording import Outcome, RunRef
from sentinel.errors import SentinelError
from sentinel.flow import Inspected, Judgement
from sentinel.formats.naming import group_of

RUNS_IN_MEMORY = 8
"""Of so many runs the last statistics are kept; of others the last checkpoint is read again."""

_STEPS_BACK = 8


class Lineage:
    """What came before in each attempt; ``read`` measures a checkpoint again after a restart."""

    def __init__(self, journal: Journal, read: Callable[[Path], Inspected]) -> None:
        self._journal = journal
        self._read = read
        self._last: OrderedDict[tuple[str, int, str], Judgement] = OrderedDict()

    def came(self, outcome: Outcome) -> None:
        """Remember a checkpoint that was judged just now."""
        if outcome.judgement.measured is None:
            return
        judged = outcome.judged
        key = (judged.run_id, judged.attempt, group_of(judged.path))
        self._last[key] = outcome.judgement
        self._last.move_to_end(key)
        if len(self._last) > RUNS_IN_MEMORY:
            self._last.popitem(last=False)

    def before(self, ref: RunRef, checkpoint: Checkpoint) -> Judgement | Inspected | None:
        """Return the checkpoint before this one in its attempt, else the attempt's parent.

        None when there is none, when it is gone, or when it is not known to lie before.
        """
        group = group_of(checkpoint.path)
        last = self._last.get((ref.run_id, ref.attempt, group))
        before = last or next(self._readable(ref, group), None)
        if before is None or not _follows(checkpoint, before.checkpoint):
            return None
        return before

    def _readable(self, ref: RunRef, group: str) -> Iterator[Inspected]:
        """Yield what the journal knows to come before, newest first, as far as it is unchanged."""
        for judged in self._known(ref, group):
            # What could not be read then would only cost its reader's life again.
            if judged.level == "unreadable" or not os.path.lexists(judged.path):
                continue
            try:
                read = self._read(judged.path)
            except SentinelError:
                continue  # history is a help; without it rules that need it are not evaluated
            lies = identity_or_own(judged.path, read.checkpoint.members)
            if read.measured is not None and self._journal.is_judged(ref.run_id, lies):
                yield read

    def _known(self, ref: RunRef, group: str) -> Iterator[Judged]:
        for judged in self._journal.newest(ref.run_id, ref.attempt, limit=_STEPS_BACK):
            if group_of(judged.path) == group:
                yield judged
        parent = None if ref.parent is None else self._journal.checkpoint(ref.parent)
        # An adapter in a folder of its own below the parent's run is another one.
        if parent is not None and Path(group_of(parent.path)) not in Path(group).parents:
            yield parent


def _follows(checkpoint: Checkpoint, before: Checkpoint) -> bool:
    return before.step is None or checkpoint.step is None or before.step < checkpoint.step
