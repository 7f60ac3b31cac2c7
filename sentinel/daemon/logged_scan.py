"""A one-off scan that is also written to a health log."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sentinel.daemon.recording import logged_tensors, member_digests, refused, step_before
from sentinel.flow import Inspected, Judgement
from sentinel.formats.opening import candidate_at
from sentinel.health.compaction import compact
from sentinel.health.identity import checkpoint_id
from sentinel.health.log import HealthLog
from sentinel.health.rows import checkpoint_row, finding_events
from sentinel.reports.entries import ScanEntry, entry_of

SCAN_ATTEMPT = 1
"""A scan sees files, not starts: all checkpoints of a run count as one attempt."""


def log_scan(
    judgements: Iterable[Judgement], root: Path, *, kept: bool = False
) -> tuple[ScanEntry, ...]:
    """Append every judgement to the health log at ``root`` and return the entries to report.

    Each is written when it comes, and let go: a scan that is broken off leaves those before.
    A scan has no journal, so a run is named after the place of its checkpoints: scanning again
    writes the same rows under the same names. What is due is merged at the end. ``kept`` says
    that `keep_tensors` was called for each: tensors that are there are not written again.
    """
    log = HealthLog(root)
    counts: Counter[str] = Counter()
    parents: dict[str, str] = {}
    entries = []
    for judgement in judgements:
        run_id = _run_id(judgement.checkpoint.path)
        counts[run_id] += 1
        place = (run_id, counts[run_id], parents.get(run_id))
        name = _append(log, judgement, *place, kept=kept)
        parents[run_id] = name
        told = entry_of(judgement)
        entries.append(replace(told, run=run_id, attempt=SCAN_ATTEMPT, checkpoint_id=name))
    for run_id in counts:
        compact(log, run_id)
    return tuple(entries)


def _append(
    log: HealthLog, judgement: Judgement, run_id: str, seq: int, parent: str | None, *, kept: bool
) -> str:
    checkpoint, verdict = judgement.checkpoint, judgement.verdict
    now = datetime.now(UTC)
    name = _name(judgement, run_id)
    row = checkpoint_row(
        replace(checkpoint, path=checkpoint.path.absolute()),
        verdict,
        run_id=run_id,
        attempt=SCAN_ATTEMPT,
        seq=seq,
        checkpoint_id=name,
        parent=parent,
        seen_at=now,
        settled_at=None,
        judged_at=now,
        measure_s=None,
        losses_after=step_before(judgement),
    )
    events = finding_events(
        verdict, run_id=run_id, attempt=SCAN_ATTEMPT, checkpoint_id=name, at=now
    )
    # What a node has written lacks only what takes the checkpoint before.
    is_kept = kept and not judgement.past and log.holds_tensors(run_id, name)
    log.append(row, None if is_kept else logged_tensors(judgement), events)
    return name


def keep_tensors(root: Path, inspected: Inspected) -> None:
    """Append the tensors of a measured checkpoint; on any node, under the name `log_scan` gives.

    Raises StateError when the disk refuses.
    """
    tensors = logged_tensors(inspected)
    if tensors is not None and tensors.num_rows:
        run_id = _run_id(inspected.checkpoint.path)
        name = _name(inspected, run_id)
        log = HealthLog(root)
        try:
            log.append_tensors(run_id, name, tensors)
        except OSError as error:
            raise refused(log, error) from error


def _name(read: Judgement | Inspected, run_id: str) -> str:
    return checkpoint_id(
        run_id=run_id,
        attempt=SCAN_ATTEMPT,
        path=str(read.checkpoint.path.absolute()),
        members=read.checkpoint.members,
        digests=member_digests(read),
    )


def _run_id(path: Path) -> str:
    candidate = candidate_at(path.absolute())
    place = candidate.group if candidate else str(path.absolute().parent)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"file://{place}"))
