"""Run the `sentinel` command and kill it, for real, at its n-th write to the journal.

`killed_at.py N before|after ARGUMENTS...`: SIGKILL just before or just after the n-th commit;
N = 0 never kills and prints how many commits there were.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from sqlite3 import Connection

from sentinel.cli.main import main
from sentinel.daemon.journal import Journal

number, when = int(sys.argv[1]), sys.argv[2]
commits = 0
transaction = Journal._transaction


@contextmanager
def counted(journal: Journal) -> Iterator[Connection]:
    global commits
    with transaction(journal) as connection:
        yield connection
        if when == "before" and commits + 1 == number:
            os.kill(os.getpid(), signal.SIGKILL)
    commits += 1
    if when == "after" and commits == number:
        os.kill(os.getpid(), signal.SIGKILL)


Journal._transaction = counted
sys.argv = ["sentinel", *sys.argv[3:]]
try:
    main()
finally:
    if number == 0:
        print(f"commits: {commits}", file=sys.stderr)
