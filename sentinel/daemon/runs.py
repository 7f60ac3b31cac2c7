"""To which run and attempt a checkpoint belongs: beside a trainer, and around one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sentinel.checkpoint import Checkpoint, path_text
from sentinel.daemon.journal import Attempt, Journal
from sentinel.daemon.recording import RunRef
from sentinel.formats.opening import Candidate


class WatchedRuns:
    """One run for each directory and name that checkpoints share, told apart by their steps.

    A step that falls means that the trainer was started again: a new attempt, whose parent is
    known only when the checkpoint itself names it. ``is_guarded`` tells whether another sentinel
    acts on a run; that one judges it then, and ``on_note`` gets a sentence about it.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        is_guarded: Callable[[str], bool],
        on_note: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._is_guarded = is_guarded
        self._on_note = on_note
        self._run_ids: dict[str, str] = {}
        self._left_alone: set[str] = set()

    def known(self, candidate: Candidate) -> str | None:
        """Return the run's id, a new one for a run that is seen for the first time."""
        group = os.path.realpath(candidate.group)
        if group not in self._run_ids:
            self._run_ids[group] = self._journal.bind_run((Path(group),))
        run_id = self._run_ids[group]
        if self._is_guarded(run_id):
            if run_id not in self._left_alone:
                self._on_note(f"'{path_text(group)}' is left to the sentinel that runs its trainer")
            self._left_alone.add(run_id)
            return None
        self._left_alone.discard(run_id)
        return run_id

    def of(self, candidate: Candidate, checkpoint: Checkpoint) -> RunRef:
        """Return the attempt a checkpoint belongs to, opening a new one where it must be new."""
        run_id = self._run_ids[os.path.realpath(candidate.group)]
        last = self._journal.last_attempt(run_id)
        if last is None or self._restarted(last, checkpoint):
            parent = self._parent(run_id, checkpoint)
            last = self._journal.open_attempt(run_id, parent=parent)
        return RunRef(run_id, last.attempt, last.parent, candidate.path.parent)

    def _restarted(self, last: Attempt, checkpoint: Checkpoint) -> bool:
        highest, paths = self._journal.highest_step(last.run_id, last.attempt)
        if highest is None or checkpoint.step is None:
            return False
        # A last save beside the last step's own is the same step under another name.
        again = checkpoint.step == highest and checkpoint.path in paths
        return checkpoint.step < highest or again

    def _parent(self, run_id: str, checkpoint: Checkpoint) -> str | None:
        named = checkpoint.settings.get("resumed_from.path")
        if not isinstance(named, str):
            return None
        real = os.path.realpath(named)
        for judged in reversed(self._journal.judged(run_id)):
            if os.path.realpath(judged.path) == real:
                return judged.checkpoint_id
        pinned = self._journal.checkpoint(Path(named).parent.name)
        return pinned.checkpoint_id if pinned is not None and pinned.run_id == run_id else None


class SupervisedRuns:
    """Every checkpoint below the roots belongs to the attempt that runs now.

    ``before`` are the attempts so far, whose copies are no checkpoints of the trainer's.
    """

    def __init__(self, run_id: str, root: Path, *, before: Sequence[Attempt] = ()) -> None:
        self._run_id = run_id
        self._root = root
        self._copies = {Path(copy) for one in before if (copy := _copy_of(one))}
        self._attempt = 0
        self._parent: str | None = None

    def take(self, attempt: Attempt | None) -> None:
        """Count what comes from here on to an attempt; None is what lay there before the first."""
        self._attempt = attempt.attempt if attempt else 0
        self._parent = attempt.parent if attempt else None
        copy = _copy_of(attempt)
        if copy is not None:
            self._copies.add(Path(copy))

    def known(self, candidate: Candidate) -> str | None:
        """Return the id of the one run there is, None for a copy that sentinel made itself."""
        return None if candidate.path in self._copies else self._run_id

    def of(self, candidate: Candidate, checkpoint: Checkpoint) -> RunRef:  # noqa: ARG002
        """Return the attempt that was taken last."""
        return RunRef(self._run_id, self._attempt, self._parent, self._root)


def runs_below(roots: Sequence[Path], journal: Journal) -> Iterator[str]:
    """Yield the known runs whose checkpoints lie below one of the directories."""
    real = [Path(os.path.realpath(root)) for root in roots]
    for run_id, places in journal.runs().items():
        if any(place.is_relative_to(root) for place in places for root in real):
            yield run_id


def _copy_of(attempt: Attempt | None) -> str | None:
    """Return where the copy lies that an attempt began from, None when it began from none."""
    copy = attempt.plan.get("copy") if attempt and attempt.plan else None
    return copy if isinstance(copy, str) else None
