"""Which runs are training at this moment, by the journal: opened for reading, never waited for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sentinel.daemon.process import ProcessIdentity, living

_STARTED = "SELECT run_id, pid, pid_started FROM attempt WHERE state = 'started' AND pid > 0"


def training_now(journal: Path) -> frozenset[str]:
    """Return the runs whose trainer sentinel started here and that still lives.

    Nothing where there is no journal, or one that cannot be read now.
    """
    if not journal.is_file():
        return frozenset()
    address = f"file:{quote(str(journal))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=0.2)) as database:
            rows = database.execute(_STARTED).fetchall()
    except sqlite3.Error:
        return frozenset()
    return frozenset(
        str(run_id)
        for run_id, pid, started in rows
        if started is not None and living(ProcessIdentity(pid, started)) is not None
    )
