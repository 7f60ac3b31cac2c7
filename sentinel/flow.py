"""The flow: from a path to a verdict. Everyone who judges a checkpoint calls this.

`inspect` reads (and may run in a worker process), `conclude` asks the rules, `judge` does both
for one checkpoint; `sentinel.scanning` does so for many. Nothing here prints, writes or exits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.checkpoint import Base, Checkpoint, Part
from sentinel.errors import ConfigError, InputError
from sentinel.formats.base_search import base_paths, with_base
from sentinel.formats.hub_cache import cache_of
from sentinel.inspecting import Inspected, inspect
from sentinel.rules.baseline import Baseline
from sentinel.rules.evaluate import evaluate
from sentinel.rules.past import Before, Past, grown, with_verdict
from sentinel.rules.rule import Rule
from sentinel.rules.unmeasured import with_unmeasured
from sentinel.stats.base_norms import BaseNorms
from sentinel.stats.base_tables import base_tables
from sentinel.stats.measure import Measured
from sentinel.stats.quick import UNMEASURED, UNREAD
from sentinel.stats.samples import with_same_share, without_samples
from sentinel.stats.table import checkpoint_table, config_table, faults_table, metrics_table
from sentinel.verdict import Finding, Verdict, worst_level

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Inspected",
    "Judgement",
    "conclude",
    "find_base",
    "inspect",
    "judge",
    "past_after",
]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A checkpoint, its statistics and what the rules say about them.

    ``unconfirmed`` names the findings that want a second equal reading of the same bytes,
    ``holding`` the rules with `for` whose predicate holds; ``past`` is what it was judged by.
    """

    checkpoint: Checkpoint
    measured: Measured | None
    verdict: Verdict
    unconfirmed: tuple[str, ...] = ()
    holding: frozenset[str] = frozenset()
    past: Past = ()


def conclude(
    inspected: Inspected,
    *,
    rules: Sequence[Rule],
    base: Base | None = None,
    past: Past = (),
    norms: BaseNorms | None = None,
    baseline: Baseline | None = None,
    free_bytes: int | None = None,
) -> Judgement:
    """Ask the rules about a measured checkpoint.

    ``past`` is what came before it in the same lineage, as `past_after` gives it.
    ``base`` is the model under the adapter; without it the one the checkpoint names is used if
    it lies on this machine. Its weights are only read where ``norms``, which remembers them from
    one checkpoint to the next, is given. What ``baseline`` accepts does not count.
    ``free_bytes`` is what is free where the next checkpoint will lie, while a training runs.
    """
    found_base = None if base is not None else find_base(inspected.checkpoint)
    known_base = base or found_base
    checkpoint = with_base(inspected.checkpoint, found_base)
    tables: dict[str, pa.Table] = {
        "checkpoint": _checkpoint_table(inspected, free_bytes),
        "config": config_table(checkpoint.settings),
        "metrics": metrics_table(checkpoint),
        "faults": faults_table(checkpoint),
    }
    if inspected.measured is not None:
        before = past[0].tables.get("tensors") if past else None
        tables["tensors"] = with_same_share(inspected.measured.tensors, before)
        tables["pairs"] = inspected.measured.pairs
        tables["effects"] = inspected.measured.effects
        if inspected.measured.optimizer is not None:
            tables["optimizer"] = inspected.measured.optimizer
        if inspected.measured.optimizer_groups is not None:
            tables["optimizer_groups"] = inspected.measured.optimizer_groups
    if known_base is not None:
        tables |= base_tables(known_base, inspected.measured, norms)
    evaluation = evaluate(rules, tables, past)
    if inspected.measured is not None and inspected.measured.skipped is not None:
        depth = inspected.measured.skipped.depth
        unread = UNREAD[depth] if checkpoint.optimizer is not None else frozenset[str]()
        evaluation = with_unmeasured(evaluation, rules, UNMEASURED[depth], unread)
    findings = evaluation.findings
    if baseline is not None:
        findings = baseline.applied(checkpoint.path, findings)
    verdict = Verdict(
        level=worst_level(found.severity for found in findings),
        usable=_usable(inspected, findings),
        findings=findings,
        not_evaluated=evaluation.not_evaluated,
    )
    measured = inspected.measured
    return Judgement(
        checkpoint,
        measured and replace(measured, pairs=tables["pairs"]),  # with what the base adds to them
        verdict,
        evaluation.unconfirmed,
        evaluation.holding,
        past,
    )


def past_after(previous: Judgement | Inspected | None) -> Past:
    """Return what the checkpoint after another one can look back at.

    One of which no value was read is left out: the one before it stands in its place.
    """
    if previous is None:
        return ()
    holding: frozenset[str] = frozenset()
    past: Past = ()
    if isinstance(previous, Judgement):
        holding, past = previous.holding, previous.past
    if previous.measured is None:
        return past
    row = _checkpoint_table(previous)
    if isinstance(previous, Judgement):
        verdict = previous.verdict
        row = with_verdict(row, verdict.level, weights_usable="weights" in verdict.usable)
    tables = {
        "checkpoint": row,
        "tensors": previous.measured.tensors,
        "pairs": previous.measured.pairs,
    }
    older = tuple(replace(one, tables=_without_samples(one.tables)) for one in past[:1])
    return grown(Before(tables, holding), (*older, *past[1:]))


def _checkpoint_table(read: Judgement | Inspected, free_bytes: int | None = None) -> pa.Table:
    optimizer = read.measured and read.measured.optimizer
    return checkpoint_table(read.checkpoint, optimizer, free_bytes)


def _without_samples(tables: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
    tensors = tables.get("tensors")
    return tables if tensors is None else {**tables, "tensors": without_samples(tensors)}


def judge(
    path: Path,
    *,
    rules: Sequence[Rule],
    base: Base | None = None,
    previous: Judgement | None = None,
    digest: bool = False,
) -> Judgement:
    """Open, measure and judge one checkpoint."""
    inspected = inspect(path, digest=digest)
    return conclude(inspected, rules=rules, base=base, past=past_after(previous))


def find_base(checkpoint: Checkpoint) -> Base | None:
    """Return the base model of a checkpoint, None when it is not found on this machine.

    It may lie where the checkpoint names it, in the cache of huggingface_hub, or beside the
    checkpoint; `sentinel.formats.base_search` says in which order.
    """
    cache = cache_of(os.environ, Path(os.path.expanduser("~")))  # noqa: PTH111 - never raises
    for path in base_paths(checkpoint, cache):
        try:
            return _read_base(path)
        except (ConfigError, InputError):
            # The base is not what was asked about; rules that need it say that it is missing.
            continue
    return None


def _read_base(path: Path) -> Base:
    from sentinel.formats.base import read_base  # noqa: PLC0415 - most are judged without one

    return read_base(path)


def _usable(inspected: Inspected, findings: Sequence[Finding]) -> tuple[Part, ...]:
    """Return the parts that were read whole and have no grave content finding.

    Random states and a scheduler alone are nothing to begin from.
    """
    if inspected.measured is None:
        return ()
    damaged = {
        part
        for found in findings
        if found.scope == "content" and found.severity in {"critical", "unreadable"}
        for part in found.parts
    }
    optimizer, skipped = inspected.checkpoint.optimizer, inspected.measured.skipped
    read: dict[Part, bool] = {
        "weights": skipped is None or skipped.depth != "headers",
        "optimizer": optimizer is not None and not optimizer.opaque_count and skipped is None,
        "state": inspected.checkpoint.state_is_whole,
    }
    usable = tuple(part for part, is_read in read.items() if is_read and part not in damaged)
    return () if usable == ("state",) else usable
