"""A run as the report tells it, thinned where it is too long to be told whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.health.query import fetch, read
from sentinel.health.reading import checkpoint_rows, event_rows
from sentinel.reports.picture.told import Told
from sentinel.reports.words import shown
from sentinel.ui.look import LIMITS, Look
from sentinel.ui.pages import NotThereError
from sentinel.verdict import LEVELS

if TYPE_CHECKING:
    import duckdb

MOST_TOLD = 2000
"""Checkpoints of a run that are read whole; of a longer one, of each stretch the gravest."""

_MOST_EVENTS = 20_000

RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What every run is called; nothing else is looked for."""

_CHOSEN = """
WITH placed AS (
    SELECT checkpoint_id, attempt, seq, list_position(?, verdict) AS gravity,
           (row_number() OVER (ORDER BY attempt, step NULLS FIRST, seq) - 1) * ?
               // count(*) OVER () AS place
    FROM checkpoints
    WHERE run_id = ?
)
SELECT checkpoint_id
FROM placed
QUALIFY row_number() OVER (PARTITION BY attempt, place ORDER BY gravity DESC, seq DESC) = 1
     OR row_number() OVER (ORDER BY attempt DESC, seq DESC) = 1
     OR row_number() OVER (PARTITION BY attempt ORDER BY seq) = 1
     OR list_contains(?, checkpoint_id)
"""
_ROWS = """
SELECT * FROM checkpoints
WHERE run_id = ? AND (? OR list_contains(?, checkpoint_id))
ORDER BY attempt, step NULLS FIRST, seq
"""
_EVENTS = """
SELECT * FROM events
WHERE run_id = ?
  AND (? OR checkpoint_id IS NULL OR kind NOT IN ('finding', 'action')
       OR list_contains(?, checkpoint_id))
ORDER BY events.at DESC, event_id
LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class TellingRun:
    """A run to be told: ``count`` checkpoints lie in the log, ``run`` holds some or all."""

    run: Told
    count: int

    @property
    def is_thinned(self) -> bool:
        """Tell whether some of its checkpoints were left out."""
        return self.count > len(self.run.rows)


def telling(look: Look, run_id: str, *, also: Sequence[str] = ()) -> TellingRun:
    """Return a run of the log; ``also`` are checkpoints that must not be left out.

    Raises NotThereError for a run that the log does not know.
    """
    if not RUN_ID.fullmatch(run_id):
        raise _not_there(run_id)

    def ask(connection: duckdb.DuckDBPyConnection) -> TellingRun:
        counted = fetch(
            connection, "SELECT count(*) AS n FROM checkpoints WHERE run_id = ?", (run_id,)
        )
        count = int(counted["n"][0].as_py())
        whole = count <= MOST_TOLD
        chosen: list[str] = []
        if not whole:
            asked = (list(LEVELS), MOST_TOLD, run_id, list(also))
            chosen = fetch(connection, _CHOSEN, asked)["checkpoint_id"].to_pylist()
        rows = checkpoint_rows(fetch(connection, _ROWS, (run_id, whole, chosen)))
        events = event_rows(fetch(connection, _EVENTS, (run_id, whole, chosen, _MOST_EVENTS)))
        return TellingRun(Told(look.log, run_id, rows, events[::-1]), count)

    told = read(look.log, ask, run_id, limits=LIMITS)
    if not told.run.rows and not told.run.events:
        raise _not_there(run_id)
    return told


def _not_there(run_id: str) -> NotThereError:
    return NotThereError(
        f"run '{shown(run_id)}'", fact="is not in the health log", todo="see the list of all runs"
    )
