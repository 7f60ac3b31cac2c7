"""The page of the rebuilt threads; `docs/generate.py` writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from threads.registry import LEFT, THREADS
from threads.thread import Thread

PAGE = "threads.md"

_HEAD = """\
# What people met in public, and what is said of it here

<!-- Written by `python docs/generate.py` from `tests/threads/registry.py`. -->

Each thread is rebuilt by one test of `tests/threads/`, named by repository and number, which also
asks that the same training or file without the fault does not get the finding.

`trained`: a real library trained, and it failed by itself.
`saved`: a real library's saving was cut off, or given what breaks it.
`planted`: the damage was done to a file that a real library wrote.
`configured`: the trainer's own configuration or command, before step 1.
"""

_LEFT_HEAD = """\
## Not rebuilt

Threads that report what one above reports are not listed.
"""


def render() -> str:
    """Return the Markdown page."""
    counted = Counter(thread.how for thread in THREADS)
    counts = ", ".join(f"{count} {how}" for how, count in counted.most_common())
    parts = [
        _HEAD,
        f"{len(THREADS)} threads: {counts}.\n",
        *_table(("thread", "what happened", "how", "rebuilt with", "named by"), map(_row, THREADS)),
        _LEFT_HEAD,
        *_table(("threads", "why"), ((left.references, left.reason) for left in LEFT)),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _row(thread: Thread) -> tuple[str, ...]:
    named = ", ".join(f"[`{rule}`](rules.md#{rule})" for rule in thread.rules)
    where = f"[{thread.repository}#{thread.number}]({thread.url})"
    return where, thread.happened, f"`{thread.how}`", thread.rebuilt, named


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
