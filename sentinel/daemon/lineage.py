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
from sentinel.flow import Inspected, Judgement, past_after
from sentinel.formats.naming import group_of
from sentinel.health.earlier import Earlier, earlier
from sentinel.rules.past import Before, Past, with_verdict
from sentinel.stats.table import checkpoint_row_table

RUNS_IN_MEMORY = 8
"""Of so many runs the last statistics are kept; of others the last checkpoint is read again."""

_STEPS_BACK = 8
_COLUMNS = (
    "path", "layout", "trainer", "step", "epoch", "updates_done", "size_bytes", "tensor_count",
)  # fmt: skip


class Lineage:
    """What came before in each attempt.

    After a restart ``read`` measures the newest checkpoint again, and what lies further back is
    taken from the health log, which has no pairs.
    """

    def __init__(self, journal: Journal, log: Path, read: Callable[[Path], Inspected]) -> None:
        self._journal = journal
        self._log = log
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

    def before(self, ref: RunRef, checkpoint: Checkpoint) -> Past:
        """Return what came before a checkpoint in its attempt, else up from the attempt's parent.

        Nothing when there is none, when it is gone, or when it is not known to lie before.
        """
        group = group_of(checkpoint.path)
        last = self._last.get((ref.run_id, ref.attempt, group))
        if last is not None:
            return past_after(last) if _follows(checkpoint, last.checkpoint) else ()
        known = list(self._known(ref, group))
        for number, judged in enumerate(known):
            read = self._readable(ref, judged)
            if read is not None:
                follows = _follows(checkpoint, read.checkpoint)
                return self._remembered(ref, judged, read, known[number + 1 :]) if follows else ()
        return ()

    def _remembered(
        self, ref: RunRef, judged: Judged, read: Inspected, older: list[Judged]
    ) -> Past:
        ids = [judged.checkpoint_id, *(one.checkpoint_id for one in older)]
        logged = earlier(self._log, ref.run_id, ids)
        newest, *rest = (logged.get(one) for one in ids)
        (first,) = past_after(read)
        holding = frozenset(newest.row.holding) if newest else first.holding
        usable = "weights" in newest.row.usable if newest else judged.target
        checkpoint = first.tables["checkpoint"]
        said = with_verdict(checkpoint, judged.level, weights_usable=usable)
        now = Before({**first.tables, "checkpoint": said}, holding)
        return (now, *(_before(one) for one in rest if one is not None))

    def _readable(self, ref: RunRef, judged: Judged) -> Inspected | None:
        """Return a checkpoint measured anew, None when it cannot be or is not the same any more."""
        # What could not be read then would only cost its reader's life again.
        if judged.level == "unreadable" or not os.path.lexists(judged.path):
            return None
        try:
            read = self._read(judged.path)
        except SentinelError:
            return None  # history is a help; without it rules that need it are not evaluated
        lies = identity_or_own(judged.path, read.checkpoint.members)
        known = read.measured is not None and self._journal.is_judged(ref.run_id, lies)
        return read if known else None

    def _known(self, ref: RunRef, group: str) -> Iterator[Judged]:
        for judged in self._journal.newest(ref.run_id, ref.attempt, limit=_STEPS_BACK):
            if group_of(judged.path) == group:
                yield judged
        parent = None if ref.parent is None else self._journal.checkpoint(ref.parent)
        # An adapter in a folder of its own below the parent's run is another one.
        if parent is not None and Path(group_of(parent.path)) not in Path(group).parents:
            yield parent


def _before(logged: Earlier) -> Before:
    row = logged.row
    columns = {name: getattr(row, name) for name in _COLUMNS}
    tables = {
        "checkpoint": with_verdict(
            checkpoint_row_table(columns, row.settings),
            row.verdict,
            weights_usable="weights" in row.usable,
        ),
        "tensors": logged.tensors,
    }
    return Before(tables, frozenset(row.holding))


def _follows(checkpoint: Checkpoint, before: Checkpoint) -> bool:
    return before.step is None or checkpoint.step is None or before.step < checkpoint.step
