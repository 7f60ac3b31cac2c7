"""Judging each settled checkpoint once: candidates in, verdicts out, written down in between.

The order of writing is the safety of it: the health log first (its checkpoint part is the
commit mark), then the journal. A kill in between makes the next start judge the checkpoint
again and write the same rows under the same names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from sentinel.checkpoint import Base, Checkpoint, Fault, identity, path_text
from sentinel.daemon.arrivals import Arrived
from sentinel.daemon.journal import Journal, Judged
from sentinel.daemon.settle import Pending, Settling
from sentinel.errors import ChangedWhileReadError, SentinelError, WorkerDiedError
from sentinel.flow import Inspected, Judgement, conclude, inspect
from sentinel.formats.naming import is_temporary
from sentinel.formats.opening import Candidate, candidate_at, discover, open_checkpoint
from sentinel.health.identity import checkpoint_id
from sentinel.health.log import HealthLog
from sentinel.health.rows import CheckpointRow, checkpoint_row, finding_events
from sentinel.rules.schema import Rule

_INSPECT = partial(inspect, digest=True)

_NOT_WHOLE = frozenset({"truncated-file", "missing-shard"})
"""Faults that a checkpoint also shows while it is still being written."""

DEATHS_UNTIL_UNREADABLE = 3
"""A worker killed by one file this often (SIGBUS, out of memory) will be killed again."""


@dataclass(frozen=True, slots=True)
class RunRef:
    """Which run and attempt a checkpoint belongs to, and from which checkpoint that began."""

    run_id: str
    attempt: int
    parent: str | None
    root: Path


class Runs(Protocol):
    """Who knows to which run a checkpoint belongs."""

    def of(self, candidate: Candidate, checkpoint: Checkpoint) -> RunRef:
        """Return the run of a checkpoint that is about to be judged."""

    def known(self, candidate: Candidate) -> str:
        """Return the run id of a candidate, before it is opened."""


class Reader(Protocol):
    """Whoever runs the reading: the same process, or one that may die in its place."""

    def call(self, fn: Callable[[Path], Inspected], path: Path) -> Inspected:
        """Return ``fn(path)``; raises WorkerDiedError."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A checkpoint that was judged just now."""

    judged: Judged
    judgement: Judgement
    row: CheckpointRow


@dataclass(frozen=True, slots=True)
class _Waiting:
    candidate: Candidate
    seen_at: datetime
    look_at_s: float = 0.0
    deaths: int = 0
    first_reading: Inspected | None = None


class Inspector:
    """The candidates that wait for their verdict, and the way each of them gets it."""

    def __init__(
        self,
        *,
        journal: Journal,
        log: HealthLog,
        rules: Sequence[Rule],
        runs: Runs,
        settling: Settling,
        reader: Reader,
        on_note: Callable[[str], None],
        base: Base | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._log = log
        self._rules = tuple(rules)
        self._runs = runs
        self._settling = settling
        self._reader = reader
        self._on_note = on_note
        self._base = base
        self._clock = clock
        self._waiting: dict[Path, _Waiting] = {}
        self._closed: set[Path] = set()
        self._last: dict[tuple[str, int], Judgement] = {}

    def arrived(self, arrived: Arrived, roots: Sequence[Path]) -> None:
        """Take note of what may be new below the roots."""
        self._closed |= arrived.closed
        for candidate in self._candidates(arrived, roots):
            if candidate.path not in self._waiting:
                now = datetime.now(UTC)
                self._waiting[candidate.path] = _Waiting(candidate, now)

    @property
    def pending(self) -> int:
        """Return how many checkpoints wait for their verdict."""
        return len(self._waiting)

    def next_look_s(self) -> float | None:
        """Return in how many seconds the next waiting checkpoint wants a look, None for never."""
        if not self._waiting:
            return None
        first = min(waiting.look_at_s for waiting in self._waiting.values())
        return max(0.0, first - self._clock())

    def work(self) -> Iterator[Outcome]:
        """Judge every checkpoint that is settled by now, in the order of each run's steps."""
        due = [w for w in self._waiting.values() if w.look_at_s <= self._clock()]
        for waiting in sorted(due, key=_order):
            try:
                outcome = self._look(waiting)
            except SentinelError as error:
                self._give_up(waiting, str(error))
            except Exception as error:  # noqa: BLE001 - one checkpoint must not end the daemon
                self._give_up(waiting, f"a bug in sentinel ({type(error).__name__}: {error})")
            else:
                if outcome is not None:
                    yield outcome

    def _candidates(self, arrived: Arrived, roots: Sequence[Path]) -> Iterable[Candidate]:
        if arrived.rescan:
            for known in roots:
                if known.exists():
                    yield from discover(known)
            return
        for directory in sorted(arrived.dirty):
            root = _root_of(directory, roots)
            if root is None or not directory.exists() or _temporary(directory, root):
                continue
            around = _enclosing(directory, root)
            yield from around
            if not any(candidate.step is not None for candidate in around):
                yield from discover(directory)

    def _look(self, waiting: _Waiting) -> Outcome | None:
        path = waiting.candidate.path
        if not path.exists():
            self._drop(path)
            return None
        checkpoint = open_checkpoint(path)
        seen = identity(checkpoint.members)
        if self._journal.is_judged(self._runs.known(waiting.candidate), seen):
            self._drop(path)
            return None
        state = self._settling.look(
            path,
            identity=seen,
            whole=not any(fault.rule in _NOT_WHOLE for fault in checkpoint.faults),
            complete=checkpoint.complete,
            closed=self._all_closed(checkpoint),
        )
        if isinstance(state, Pending):
            self._again(waiting, state.again_in_s)
            return None
        return self._judge(waiting, checkpoint)

    def _judge(self, waiting: _Waiting, checkpoint: Checkpoint) -> Outcome | None:
        settled_at = datetime.now(UTC)
        started_s = self._clock()
        inspected = self._read(waiting, checkpoint)
        if inspected is None:
            return None
        ref = self._runs.of(waiting.candidate, checkpoint)
        previous = self._previous(ref, checkpoint)
        judgement = conclude(inspected, rules=self._rules, base=self._base, previous=previous)
        if self._wants_second_reading(waiting, judgement, inspected):
            self._waiting[waiting.candidate.path] = replace(
                waiting, first_reading=inspected, look_at_s=self._clock() + 1.0
            )
            return None
        return self._write(
            waiting, ref, judgement, settled_at=settled_at, measure_s=self._clock() - started_s
        )

    def _read(self, waiting: _Waiting, checkpoint: Checkpoint) -> Inspected | None:
        """Measure in the reader; None when it has to be tried again later."""
        path = waiting.candidate.path
        try:
            return self._reader.call(_INSPECT, path)
        except ChangedWhileReadError:
            self._settling.forget(path)
            self._again(waiting, 0.0)
            return None
        except WorkerDiedError as error:
            deaths = waiting.deaths + 1
            if deaths < DEATHS_UNTIL_UNREADABLE:
                self._settling.forget(path)
                self._again(replace(waiting, deaths=deaths), 0.0)
                return None
            fault = Fault("unreadable-file", "weights", path.name, str(error))
            return Inspected(replace(checkpoint, faults=(*checkpoint.faults, fault)), None)

    def _wants_second_reading(
        self, waiting: _Waiting, judgement: Judgement, inspected: Inspected
    ) -> bool:
        """Tell whether zeros must be seen twice.

        Versions 0.8.0-rc of safetensors laid out a file of zeros in full length before they
        wrote into it, so without a completion mark one reading of zeros proves nothing.
        """
        if judgement.checkpoint.complete:
            return False
        if not judgement.unconfirmed:
            return False
        first = waiting.first_reading
        return first is None or _digests(first) != _digests(inspected)

    def _write(
        self,
        waiting: _Waiting,
        ref: RunRef,
        judgement: Judgement,
        *,
        settled_at: datetime,
        measure_s: float,
    ) -> Outcome:
        checkpoint, verdict = judgement.checkpoint, judgement.verdict
        seen = identity(checkpoint.members)
        name = checkpoint_id(
            run_id=ref.run_id,
            attempt=ref.attempt,
            path=_relative(checkpoint.path, ref.root),
            members=checkpoint.members,
            digests=member_digests(judgement),
        )
        now = datetime.now(UTC)
        seq = self._journal.next_seq(ref.run_id)
        row = checkpoint_row(
            checkpoint,
            verdict,
            run_id=ref.run_id,
            attempt=ref.attempt,
            seq=seq,
            checkpoint_id=name,
            parent=ref.parent,
            seen_at=waiting.seen_at,
            settled_at=settled_at,
            judged_at=now,
            measure_s=measure_s,
        )
        events = finding_events(
            verdict, run_id=ref.run_id, attempt=ref.attempt, checkpoint_id=name, at=now
        )
        tensors = judgement.measured.tensors if judgement.measured else None
        self._log.append(row, tensors, events)
        judged = Judged(
            checkpoint_id=name,
            run_id=ref.run_id,
            attempt=ref.attempt,
            seq=seq,
            parent=ref.parent,
            path=checkpoint.path,
            step=checkpoint.step,
            updates_done=checkpoint.updates_done,
            level=verdict.level,
            target=_may_be_target(judgement),
            findings=verdict.findings,
            settings=dict(checkpoint.settings),
            loss=last_loss(checkpoint),
        )
        self._journal.record(judged, seen)
        if judgement.measured is not None:
            self._last[ref.run_id, ref.attempt] = judgement
        self._drop(waiting.candidate.path)
        return Outcome(judged, judgement, row)

    def _previous(self, ref: RunRef, checkpoint: Checkpoint) -> Judgement | Inspected | None:
        """Return the checkpoint before this one in its lineage, read again if need be."""
        last = self._last.get((ref.run_id, ref.attempt))
        if last is not None:
            earlier = last.checkpoint.step
            follows = earlier is None or checkpoint.step is None or earlier < checkpoint.step
            return last if follows else None
        known = self._journal.judged(ref.run_id)
        same = [j for j in known if j.attempt == ref.attempt]
        before = (
            same[-1] if same else next((j for j in known if j.checkpoint_id == ref.parent), None)
        )
        if before is None or not before.path.exists():
            return None
        try:
            return self._reader.call(_INSPECT, before.path)
        except (ChangedWhileReadError, WorkerDiedError):
            return None

    def _all_closed(self, checkpoint: Checkpoint) -> bool:
        """Tell once whether the writers of all its files were seen to close them.

        Each close counts for one look: the settling remembers it until the bytes change, and a
        file that is opened again must not pass for closed.
        """
        files = {checkpoint.root / member.path for member in checkpoint.members}
        closed = bool(files) and files <= self._closed
        if closed:
            self._closed -= files
        return closed

    def _give_up(self, waiting: _Waiting, why: str) -> None:
        """Leave a checkpoint without a verdict: it comes back with the next rescan."""
        path = waiting.candidate.path
        self._drop(path)
        if path.exists():
            self._on_note(f"'{path_text(path)}' could not be judged: {why}")

    def _again(self, waiting: _Waiting, seconds: float) -> None:
        later = replace(waiting, look_at_s=self._clock() + seconds)
        self._waiting[waiting.candidate.path] = later

    def _drop(self, path: Path) -> None:
        self._waiting.pop(path, None)
        self._settling.forget(path)
        self._closed = {closed for closed in self._closed if path not in (closed, *closed.parents)}


def last_loss(checkpoint: Checkpoint) -> float | None:
    """Return the loss to compare attempts by: the newest held-out loss, else the newest loss."""
    for name in ("eval_loss", "loss"):
        values = [metric for metric in checkpoint.metrics if metric.name == name]
        if values:
            return max(values, key=lambda metric: metric.step).value
    return None


def _may_be_target(judgement: Judgement) -> bool:
    """Tell whether a resume may begin here: no grave content finding in what it will load."""
    grave = any(
        found.scope == "content" and found.severity in {"critical", "unreadable"}
        for found in judgement.verdict.findings
    )
    return bool(judgement.verdict.usable) and not grave


def _order(waiting: _Waiting) -> tuple[str, float, str]:
    candidate = waiting.candidate
    step = float("inf") if candidate.step is None else candidate.step
    return (candidate.group, step, str(candidate.path))


def _root_of(directory: Path, roots: Sequence[Path]) -> Path | None:
    return next((root for root in roots if root in (directory, *directory.parents)), None)


def _temporary(directory: Path, root: Path) -> bool:
    """Tell whether a directory is, or lies in, something that is still being written."""
    return any(is_temporary(name) for name in directory.relative_to(root).parts)


def _enclosing(directory: Path, root: Path) -> list[Candidate]:
    """Return the checkpoints that this directory is or lies in, up to the root."""
    chain = [place for place in (directory, *directory.parents) if place.is_relative_to(root)]
    found = (candidate_at(place) for place in chain)
    return [candidate for candidate in found if candidate is not None]


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _digests(inspected: Inspected) -> list[object]:
    return inspected.measured.tensors.column("digest").to_pylist() if inspected.measured else []


def member_digests(judgement: Judgement) -> dict[str, str]:
    """Return one digest a member, made of its tensors' digests in the file's order."""
    if judgement.measured is None:
        return {}
    rows = judgement.measured.tensors.select(["member", "digest"]).to_pylist()
    joined: dict[str, str] = {}
    for row in rows:
        joined[row["member"]] = joined.get(row["member"], "") + str(row["digest"])
    return joined
