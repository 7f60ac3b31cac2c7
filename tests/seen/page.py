"""Where each rule was seen on a real file; `docs/generate.py` puts it on the rules' page."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from corpus.registry import CASES
from seen.registry import SEEN, UNSEEN
from threads.registry import THREADS

BENCHMARK = Path(__file__).parents[2] / "docs" / "detection.md"
"""Holds a table of each set of trainings: a rule, the failing runs it spoke in, the healthy."""

LINKS = 3
"""As many threads are named; the page of the threads has all."""

_ROW = re.compile(r"^\| `([a-z0-9-]+)` \| (\d+) \| (\d+) \|$", re.MULTILINE)


def lines() -> dict[str, str]:
    """Return what is said of each rule by its id, in Markdown."""
    counted = Counter(rule for case in CASES for rule in case.truth.findings)
    told: dict[str, list[str]] = {}
    for one in SEEN:
        text = f"{one.fires} (`{one.how}`; quiet: {one.quiet})"
        told.setdefault(one.rule, []).append(text)
    for rule in sorted({rule for thread in THREADS for rule in thread.rules}):
        told.setdefault(rule, []).append(_threads(rule))
    for rule, count in counted.items():
        cases = "case" if count == 1 else "cases"
        told.setdefault(rule, []).append(f"{count} {cases} of the [corpus](support.md)")
    for rule, (failing, healthy) in _trainings().items():
        runs = f"{failing} failing and {healthy} healthy trainings"
        told.setdefault(rule, []).append(f"{runs} of the [benchmark](detection.md)")
    for left in UNSEEN:
        told.setdefault(left.rule, []).append(f"nowhere, {left.reason}")
    return {rule: "; ".join(parts) for rule, parts in told.items()}


def _trainings() -> dict[str, tuple[int, int]]:
    """Return in how many failing and healthy trainings each rule spoke, over all sets."""
    found: dict[str, tuple[int, int]] = {}
    for rule, failing, healthy in _ROW.findall(BENCHMARK.read_text(encoding="utf-8")):
        before = found.get(rule, (0, 0))
        found[rule] = before[0] + int(failing), before[1] + int(healthy)
    return found


def _threads(rule: str) -> str:
    """Return the links to the rebuilt threads that a rule answers, at most so many."""
    own = [thread for thread in THREADS if rule in thread.rules]
    links = [f"[{one.repository}#{one.number}]({one.url})" for one in own[:LINKS]]
    more = f" and {len(own) - LINKS} more [threads](threads.md)" if len(own) > LINKS else ""
    return ", ".join(links) + more
