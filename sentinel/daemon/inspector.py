"""Judging each settled checkpoint once: candidates in, verdicts out, one run's in step order."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Protocol

from sentinel.checkpoint import Base, Checkpoint, Fault, Identity, path_text
from sentinel.daemon.arrivals import Arrived
from sentinel.daemon.candidates import Candidates, identity_or_own, is_none_by_now, lying
from sentinel.daemon.journal import Journal
from sentinel.daemon.lineage import Lineage
from sentinel.daemon.reading import Reader, Reading
from sentinel.daemon.recording import Outcome, Recorder, RunRef, Times
from sentinel.daemon.room import room_for_next
from sentinel.daemon.second_reading import is_old, wants_second_reading
from sentinel.daemon.settle import Pending, Settling
from sentinel.engines.pace import Pace
from sentinel.errors import ChangedWhileReadError, SentinelError, StateError, WorkerDiedError
from sentinel.flow import Inspected, conclude, inspect
from sentinel.formats.opening import Candidate, open_checkpoint
from sentinel.health.log import HealthLog
from sentinel.rules.baseline import Baseline
from sentinel.rules.rule import Rule
from sentinel.stats.base_norms import FOUND_BUDGET_BYTES, GIVEN_BUDGET_BYTES, BaseNorms

__all__ = ["Inspector", "Outcome", "Reader", "RunRef", "Runs"]

_NOT_WHOLE = frozenset({"truncated-file", "missing-shard"})
"""Faults that a checkpoint also shows while it is still being written."""

DEATHS_UNTIL_UNREADABLE = 3
"""A worker killed by one file this often (SIGBUS, out of memory) will be killed again."""

HOLD_S = 30.0
"""A checkpoint waits so long at most for the verdict of one with a lower step."""

_LOOK_AGAIN_S = 1.0
_WRITE_AGAIN_MAX_S = 60.0
_CLOSES_KEPT_S = 60.0


class Runs(Protocol):
    """Who knows to which run a checkpoint belongs."""

    def known(self, candidate: Candidate) -> str | None:
        """Return the run id of a candidate before it is opened, None when it is not ours."""

    def of(self, candidate: Candidate, checkpoint: Checkpoint) -> RunRef:
        """Return the run of a checkpoint that is about to be judged."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A candidate without a verdict.

    ``since_s`` is when it was looked at first, ``lies`` how its files lay at the last look.
    """

    candidate: Candidate
    seen_at: datetime
    since_s: float = math.inf
    look_at_s: float = 0.0
    lies: Identity = ()
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
        baseline: Baseline | None = None,
        bytes_per_s: int | None = None,
        hold_s: float = HOLD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._runs = runs
        self._settling = settling
        self._on_note = on_note
        # The sizes of the base's weights are remembered from one checkpoint to the next.
        budget_bytes = FOUND_BUDGET_BYTES if base is None else GIVEN_BUDGET_BYTES
        norms = BaseNorms(budget_bytes, reader.call)
        self._conclude = partial(
            conclude, rules=tuple(rules), base=base, norms=norms, baseline=baseline
        )
        self._hold_s = hold_s
        self._clock = clock
        self._recorder = Recorder(journal, log)
        self._measure = Reading(reader, bytes_per_s)
        pace = None if bytes_per_s is None else Pace(bytes_per_s).took
        again = partial(reader.call, partial(inspect, digest=True, tick=pace))
        self._lineage = Lineage(journal, log.root, again)
        self._candidates = Candidates(on_note)
        self._waiting: dict[Path, _Waiting] = {}
        self._closed: dict[Path, float] = {}
        self._given_up: dict[Path, str] = {}
        self._refusal: StateError | None = None
        self._reading: Path | None = None
        self._write_again_s = _LOOK_AGAIN_S

    def arrived(self, arrived: Arrived, roots: Sequence[Path]) -> None:
        """Take note of what may be new below the roots."""
        now_s = self._clock()
        recent = {
            path: at_s for path, at_s in self._closed.items() if at_s > now_s - _CLOSES_KEPT_S
        }
        self._closed = recent | dict.fromkeys(arrived.closed, now_s)
        for candidate in self._candidates.found(arrived, roots):
            known = self._waiting.get(candidate.path)
            if known is None:
                known = _Waiting(candidate, datetime.now(UTC))
            # Its header may tell more by now than when it was first seen.
            self._waiting[candidate.path] = replace(known, candidate=candidate)
        for closed in arrived.closed:
            self._hurry(closed)

    @property
    def pending(self) -> int:
        """Return how many checkpoints wait for their verdict."""
        return len(self._waiting)

    @property
    def reading(self) -> Path | None:
        """Return the checkpoint whose values are being read, None between two; for any thread."""
        return self._reading

    @property
    def unjudged(self) -> int:
        """Return how many checkpoints that lie there have no verdict: pending or given up."""
        given_up = [path for path in self._given_up if path not in self._waiting]
        return len(self._waiting) + sum(os.path.lexists(path) for path in given_up)

    @property
    def refusal(self) -> StateError | None:
        """Return why no verdict can be written just now, None when the last one could."""
        return self._refusal

    def next_look_s(self) -> float | None:
        """Return in how many seconds the next waiting checkpoint wants a look, None for never."""
        if not self._waiting:
            return None
        first = min(waiting.look_at_s for waiting in self._waiting.values())
        return max(0.0, first - self._clock())

    def work(self) -> Iterator[Outcome]:
        """Judge what is settled by now; in each run a verdict waits for those of lower steps."""
        in_order = sorted(self._waiting.values(), key=_order)
        for _, run in groupby(in_order, key=lambda waiting: waiting.candidate.group):
            held_until_s: float | None = None
            for path in [waiting.candidate.path for waiting in run]:
                outcome = self._looked(path, held=held_until_s is not None)
                if outcome is not None:
                    yield outcome
                waiting = self._waiting.get(path)
                if waiting is None:
                    continue
                if held_until_s is None:
                    held_until_s = waiting.look_at_s if self._holds(waiting) else None
                elif waiting.look_at_s <= self._clock():
                    self._waiting[path] = replace(waiting, look_at_s=held_until_s)

    def _holds(self, waiting: _Waiting) -> bool:
        """Tell whether later steps of its run wait for this one: not for ever."""
        return self._clock() - waiting.since_s < self._hold_s

    def _looked(self, path: Path, *, held: bool) -> Outcome | None:
        """Look at a candidate if it is due; whatever is wrong with it stays its own affair."""
        waiting = self._waiting.get(path)
        if waiting is None or waiting.look_at_s > self._clock():
            return None
        if waiting.since_s == math.inf:
            waiting = replace(waiting, since_s=self._clock())
        try:
            outcome = self._look(waiting, held=held)
        except StateError as error:
            self._put_off(waiting, error)
        except SentinelError as error:
            self._give_up(waiting, str(error))
        except Exception as error:  # noqa: BLE001 - one checkpoint must not end the daemon
            self._give_up(waiting, f"a bug in sentinel ({type(error).__name__}: {error})")
        else:
            return outcome
        return None

    def _look(self, waiting: _Waiting, *, held: bool) -> Outcome | None:
        path = waiting.candidate.path
        run_id = self._runs.known(waiting.candidate) if os.path.lexists(path) else None
        if run_id is None:
            self._drop(path)
            return None
        lies = lying(waiting.candidate)
        if self._journal.is_judged(run_id, lies):
            self._known(waiting.candidate, lies)
            return None
        checkpoint = open_checkpoint(path)
        if is_none_by_now(waiting.candidate, checkpoint):
            self._drop(path)
            return None
        seen = identity_or_own(path, checkpoint.members)
        if self._journal.is_judged(run_id, seen):
            self._known(waiting.candidate, lies)
            return None
        state = self._settling.look(
            path,
            identity=seen,
            whole=not any(fault.rule in _NOT_WHOLE for fault in checkpoint.faults),
            complete=checkpoint.complete,
            closed=self._all_closed(checkpoint),
        )
        if isinstance(state, Pending) or held:
            self._again(waiting, state.again_in_s if isinstance(state, Pending) else 0.0)
            return None
        return self._judge(replace(waiting, lies=lies), checkpoint, seen)

    def _judge(self, waiting: _Waiting, opened: Checkpoint, seen: Identity) -> Outcome | None:
        settled_at = datetime.now(UTC)
        started_s = self._clock()
        inspected = self._read(waiting, opened)
        if inspected is None:
            return None
        ref = self._runs.of(waiting.candidate, inspected.checkpoint)
        past = self._lineage.before(ref, inspected.checkpoint)
        self._recorder.begin(ref, inspected, past)
        room = room_for_next(inspected.checkpoint)
        judgement = self._conclude(inspected, past=past, free_bytes=room)
        if wants_second_reading(waiting.first_reading, judgement, inspected):
            wait_s = 0.0 if is_old(inspected.checkpoint) else _LOOK_AGAIN_S
            self._again(replace(waiting, first_reading=inspected), wait_s)
            return None
        times = Times(waiting.seen_at, settled_at, measure_s=self._clock() - started_s)
        outcome = self._recorder.write(ref, judgement, seen, times)
        self._lineage.came(outcome)
        self._refusal, self._write_again_s = None, _LOOK_AGAIN_S
        self._known(waiting.candidate, waiting.lies)
        return outcome

    def _read(self, waiting: _Waiting, opened: Checkpoint) -> Inspected | None:
        """Measure in the reader; None when it has to be tried again later."""
        path = waiting.candidate.path
        self._reading = path
        try:
            inspected = self._measure(opened)
        except ChangedWhileReadError:
            inspected = None
        except WorkerDiedError as error:
            deaths = waiting.deaths + 1
            if deaths >= DEATHS_UNTIL_UNREADABLE:
                fault = Fault("unreadable-file", "weights", path.name, str(error))
                return Inspected(replace(opened, faults=(*opened.faults, fault)), None)
            waiting = replace(waiting, deaths=deaths)
            inspected = None
        finally:
            self._reading = None
        if inspected and lying(waiting.candidate) == waiting.lies:
            return inspected
        # What was measured is not what had settled.
        self._settling.forget(path)
        self._again(waiting, _LOOK_AGAIN_S)
        return None

    def _all_closed(self, checkpoint: Checkpoint) -> bool:
        """Tell once whether the writers of all its files were seen to close them.

        Each close counts for one look: the settling remembers it until the bytes change, and a
        file that is opened again must not pass for closed.
        """
        files = {checkpoint.root / member.path for member in checkpoint.members}
        closed = bool(files) and files <= self._closed.keys()
        if closed:
            for file in files:
                del self._closed[file]
        return closed

    def _hurry(self, closed: Path) -> None:
        """Look at once at a checkpoint of which a file was closed, unless zeros must rest."""
        for place in (closed, *closed.parents):
            waiting = self._waiting.get(place)
            if waiting is not None and waiting.first_reading is None:
                self._waiting[place] = replace(waiting, look_at_s=0.0)

    def _put_off(self, waiting: _Waiting, why: StateError) -> None:
        """Keep a checkpoint whose verdict could not be written: space may come back."""
        if str(why) != str(self._refusal):
            self._on_note(str(why))
        self._refusal = why
        self._again(waiting, self._write_again_s)
        self._write_again_s = min(2 * self._write_again_s, _WRITE_AGAIN_MAX_S)

    def _give_up(self, waiting: _Waiting, why: str) -> None:
        """Leave a checkpoint without a verdict: it comes back with the next rescan."""
        path = waiting.candidate.path
        told = self._given_up.get(path)
        self._drop(path)
        if os.path.lexists(path):
            self._given_up[path] = why
            if told != why:
                self._on_note(f"'{path_text(path)}' could not be judged: {why}")

    def _again(self, waiting: _Waiting, seconds: float) -> None:
        later = replace(waiting, look_at_s=self._clock() + seconds)
        self._waiting[waiting.candidate.path] = later

    def _known(self, candidate: Candidate, lies: Identity) -> None:
        self._candidates.judged(candidate, lies)
        self._drop(candidate.path)

    def _drop(self, path: Path) -> None:
        self._waiting.pop(path, None)
        self._settling.forget(path)
        self._given_up.pop(path, None)


def _order(waiting: _Waiting) -> tuple[str, float, str]:
    candidate = waiting.candidate
    step = float("inf") if candidate.step is None else candidate.step
    return (candidate.group, step, str(candidate.path))
