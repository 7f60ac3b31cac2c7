"""Writing a verdict down: the health log first, then the journal.

The order is the safety of it. The log's checkpoint part is its commit mark, and the journal
alone decides what is judged: a kill in between makes the next start judge the checkpoint again
and write the same rows under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.checkpoint import Checkpoint, Identity
from sentinel.daemon.journal import Journal, Judged
from sentinel.daemon.rows_ahead import RowsAhead
from sentinel.errors import StateError
from sentinel.flow import Inspected, Judgement
from sentinel.health.beside import with_norms, with_unchanged
from sentinel.health.identity import checkpoint_id
from sentinel.health.log import HealthLog
from sentinel.health.rows import CheckpointRow, checkpoint_row, finding_events

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.rules.past import Past
    from sentinel.stats.measure import Measured


@dataclass(frozen=True, slots=True)
class RunRef:
    """Which run and attempt a checkpoint belongs to, and from which checkpoint that began."""

    run_id: str
    attempt: int
    parent: str | None
    root: Path


@dataclass(frozen=True, slots=True)
class Times:
    """When a checkpoint was first seen and found settled (UTC), and how long measuring took."""

    seen_at: datetime
    settled_at: datetime
    measure_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A checkpoint that was judged just now."""

    judged: Judged
    judgement: Judgement
    row: CheckpointRow


class Recorder:
    """The one who writes verdicts, into one health log and one journal."""

    def __init__(self, journal: Journal, log: HealthLog) -> None:
        self._journal = journal
        self._log = log
        self._ahead = RowsAhead(log)

    def begin(self, ref: RunRef, inspected: Inspected, past: Past) -> None:
        """Begin to write what is known before the rules are asked; `write` goes on from there."""
        tensors = _with_history(inspected.measured, past)
        if tensors is None or (not inspected.checkpoint.complete and _has_zeros(tensors)):
            return  # such zeros are read again before there is a verdict
        self._ahead.begin(ref.run_id, _checkpoint_id(ref, inspected), tensors)

    def write(self, ref: RunRef, judgement: Judgement, lies: Identity, times: Times) -> Outcome:
        """Write a verdict down and return it; a repeat replaces what it wrote.

        ``lies`` is the identity by which the files are known again. Raises StateError when the
        disk refuses: then the checkpoint counts as not judged.
        """
        row = self._row(ref, judgement, times)
        judged = _judged(ref, judgement, row)
        verdict = judgement.verdict
        events = finding_events(
            verdict,
            run_id=ref.run_id,
            attempt=ref.attempt,
            checkpoint_id=row.checkpoint_id,
            at=row.judged_at,
        )
        tensors = logged_tensors(judgement)
        if self._ahead.are_written(row.checkpoint_id, tensors):
            tensors = None
        try:
            self._log.append(row, tensors, events)
        except OSError as error:
            raise refused(self._log, error) from error
        self._journal.record(judged, lies)
        return Outcome(judged, judgement, row)

    def _row(self, ref: RunRef, judgement: Judgement, times: Times) -> CheckpointRow:
        checkpoint = judgement.checkpoint
        return checkpoint_row(
            checkpoint,
            judgement.verdict,
            run_id=ref.run_id,
            attempt=ref.attempt,
            seq=self._journal.next_seq(ref.run_id),
            checkpoint_id=_checkpoint_id(ref, judgement),
            parent=ref.parent,
            seen_at=times.seen_at,
            settled_at=times.settled_at,
            judged_at=datetime.now(UTC),
            measure_s=times.measure_s,
            holding=judgement.holding,
            losses_after=step_before(judgement),
        )


def _has_zeros(tensors: pa.Table) -> bool:
    """Tell whether all values of some tensor are zero."""
    zeros, sizes = tensors["zero_count"].to_pylist(), tensors["numel"].to_pylist()
    return any(zero == size for zero, size in zip(zeros, sizes, strict=True))


def _checkpoint_id(ref: RunRef, read: Judgement | Inspected) -> str:
    checkpoint = read.checkpoint
    return checkpoint_id(
        run_id=ref.run_id,
        attempt=ref.attempt,
        path=_relative(checkpoint.path, ref.root),
        members=checkpoint.members,
        digests=member_digests(read),
    )


def refused(log: HealthLog, error: OSError) -> StateError:
    """Return what it means that the health log cannot be written."""
    return StateError(
        "health log",
        where=f"'{log.root}'",
        fact=f"cannot be written ({error.strerror or error})",
        todo="check the disk's space and permissions, or give another --log directory",
    )


def logged_tensors(read: Judgement | Inspected) -> pa.Table | None:
    """Return the rows of the log's ``tensors``, None when no value was read."""
    return _with_history(read.measured, read.past if isinstance(read, Judgement) else ())


def _with_history(measured: Measured | None, past: Past) -> pa.Table | None:
    if measured is None:
        return None
    tensors = with_norms(measured.tensors, measured.pairs, measured.effects)
    return with_unchanged(tensors, past[0].tables.get("tensors") if past else None)


def step_before(judgement: Judgement) -> int | None:
    """Return the step of the checkpoint before in the lineage, None when none is known."""
    if not judgement.past:
        return None
    step = judgement.past[0].tables["checkpoint"]["step"][0].as_py()
    return step if isinstance(step, int) else None


def member_digests(read: Judgement | Inspected) -> dict[str, str]:
    """Return one digest a member, made of its tensors' digests in the file's order."""
    if read.measured is None:
        return {}
    rows = read.measured.tensors.select(["member", "digest"]).to_pylist()
    joined: dict[str, list[str]] = {}
    for row in rows:
        joined.setdefault(row["member"], []).append(str(row["digest"]))
    return {member: "".join(digests) for member, digests in joined.items()}


def last_loss(checkpoint: Checkpoint) -> float | None:
    """Return the loss to compare attempts by: the newest held-out loss, else the newest loss."""
    for name in ("eval_loss", "loss"):
        values = [metric for metric in checkpoint.metrics if metric.name == name]
        if values:
            return max(values, key=lambda metric: metric.step).value
    return None


def _judged(ref: RunRef, judgement: Judgement, row: CheckpointRow) -> Judged:
    checkpoint, verdict = judgement.checkpoint, judgement.verdict
    return Judged(
        checkpoint_id=row.checkpoint_id,
        run_id=ref.run_id,
        attempt=ref.attempt,
        seq=row.seq,
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


def _may_be_target(judgement: Judgement) -> bool:
    """Tell whether a resume may begin here: no grave content finding in what it will load."""
    grave = any(
        found.scope == "content" and found.severity in {"critical", "unreadable"}
        for found in judgement.verdict.findings
    )
    return bool(judgement.verdict.usable) and not grave


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
