"""Judging every checkpoint below some paths, earlier ones being the history of later ones.

What was read of one is let go once those after it no longer look back at it, so a scan of ten
thousand holds no more of them than a scan of fifty. Nothing here prints, writes or exits.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from sentinel.engines.local import map_threads
from sentinel.flow import Judgement, conclude, past_after
from sentinel.formats.discovery import place_in_run
from sentinel.formats.opening import Candidate, discover
from sentinel.inspecting import Inspected, measure_again, open_settled, read_second
from sentinel.remote.paths import place_of
from sentinel.rules.load import load_rules
from sentinel.stats.base_norms import FOUND_BUDGET_BYTES, GIVEN_BUDGET_BYTES, BaseNorms
from sentinel.stats.remembered import Remembered

if TYPE_CHECKING:
    from sentinel.checkpoint import Checkpoint
    from sentinel.rules.baseline import Baseline
    from sentinel.rules.past import Past
    from sentinel.rules.rule import Rule
    from sentinel.spreading import Spread
    from sentinel.stats.quick import Depth

Item = TypeVar("Item")

_BATCH = 32
"""So many are measured before the first of them is judged. Threads that read beside a judgement
wait for the interpreter's lock after every call into the system: side by side a small checkpoint
takes half as long again."""


class Progress(Protocol):
    """Who wants to know how far a scan is; bytes are those of the checkpoints' weights."""

    def begin(self, total_bytes: int) -> None:
        """Hear how much there is to read."""

    def advance(self, size_bytes: int) -> None:
        """Hear that some of it was read; called from several threads."""


def scan(
    *paths: str | Path,
    base: str | Path | None = None,
    rules: Sequence[Rule] | None = None,
    jobs: int = 1,
    digest: bool = True,
    settle_s: float = 2.0,
    baseline: Baseline | None = None,
    progress: Progress | None = None,
    depth: Depth = "whole",
    spread: Spread | None = None,
) -> tuple[Judgement, ...]:
    """Judge every checkpoint at or below the given paths.

    Within one run (a directory and a name without its step) the checkpoints are ordered by
    step, in whatever order the paths are given, and each is the history of the next. A file
    written within the last ``settle_s`` seconds is waited for. What ``baseline`` accepts does
    not count. ``depth`` says how much is read: rules that want more are not evaluated.
    ``spread`` measures on a cluster instead of ``jobs`` threads.
    Writes nothing. Raises ConfigError for a path that does not exist.
    """
    return tuple(
        judged(
            *paths,
            base=base,
            rules=rules,
            jobs=jobs,
            digest=digest,
            settle_s=settle_s,
            baseline=baseline,
            progress=progress,
            depth=depth,
            spread=spread,
        )
    )


def judged(
    *paths: str | Path,
    base: str | Path | None = None,
    rules: Sequence[Rule] | None = None,
    jobs: int = 1,
    digest: bool = True,
    settle_s: float = 2.0,
    baseline: Baseline | None = None,
    progress: Progress | None = None,
    depth: Depth = "whole",
    spread: Spread | None = None,
) -> Iterator[Judgement]:
    """Yield what `scan` returns, each as soon as it is known, and keep none of them.

    Checkpoints are opened and measured a little ahead of what the reader takes; with a
    ``progress`` all are opened first, for the sum of what there is to read.
    """
    known_rules = load_rules() if rules is None else rules
    known_base = None
    if base is not None:
        from sentinel.formats.base import read_base  # noqa: PLC0415 - most are judged without one

        known_base = read_base(Path(base))
    runs = _runs(found for path in paths for found in discover(place_of(path)))
    candidates = [candidate for run in runs for candidate in run]
    opened: Iterator[Checkpoint] = (open_settled(one, settle_s) for one in candidates)
    if progress is not None:
        known = deque(opened)
        progress.begin(sum(tensor.size_bytes for one in known for tensor in one.tensors))
        opened = _let_go(known)
    stop = threading.Event()
    tick = _until(stop, progress.advance if progress is not None else None)
    # Threads that have no checkpoint of their own share the tensors of one.
    shared = max(1, jobs // max(1, len(candidates)))
    read = partial(
        measure_again,
        digest=digest,
        tick=tick,
        jobs=shared,
        remembered=Remembered(),
        depth=depth,
    )
    norms = BaseNorms(FOUND_BUDGET_BYTES if base is None else GIVEN_BUDGET_BYTES)
    read_again = partial(measure_again, digest=digest, tick=None, depth=depth)
    ask = partial(conclude, rules=known_rules, base=known_base, norms=norms, baseline=baseline)
    try:
        inspected = (
            map_threads(read, opened, jobs)
            if spread is None
            else _let_go(deque(spread.read(list(opened), digest=digest, depth=depth, tick=tick)))
        )
        measured = _in_batches(inspected, max(_BATCH, jobs))
        for run in runs:
            yield from _conclude_run(islice(measured, len(run)), ask, read_again)
    finally:
        # After Ctrl-C threads in the middle of a large file would read on to its end.
        stop.set()


def _in_batches(items: Iterator[Item], size: int) -> Iterator[Item]:
    """Yield items, several of them drawn before the first."""
    while batch := deque(islice(items, size)):
        yield from _let_go(batch)


def _let_go(items: deque[Item]) -> Iterator[Item]:
    """Yield items, each held by nobody here once it is taken."""
    while items:
        yield items.popleft()


def _runs(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """Return each checkpoint once, run by run as they were first met, a run in step order."""
    runs: dict[str, dict[str, Candidate]] = {}
    for candidate in candidates:
        run = runs.setdefault(os.path.realpath(candidate.group), {})
        run.setdefault(os.path.realpath(candidate.path), candidate)
    return [sorted(run.values(), key=place_in_run) for run in runs.values()]


def _until(stop: threading.Event, tick: Callable[[int], None] | None) -> Callable[[int], None]:
    """Return a tick that ends the reading it is called from once ``stop`` is set."""

    def advance(size_bytes: int) -> None:
        if stop.is_set():
            raise _StoppedError
        if tick is not None:
            tick(size_bytes)

    return advance


class _StoppedError(Exception):
    """The scan was given up; raised in threads whose result nobody waits for."""


def _conclude_run(
    run: Iterable[Inspected],
    ask: Callable[..., Judgement],
    read: Callable[[Checkpoint], Inspected],
) -> Iterator[Judgement]:
    past: Past = ()
    for inspected in run:
        judgement = ask(inspected, past=past)
        if judgement.unconfirmed and not judgement.checkpoint.complete:
            second = read_second(inspected.checkpoint, read)
            if second is not None:
                judgement = ask(second, past=past)
        yield judgement
        past = past_after(judgement)
