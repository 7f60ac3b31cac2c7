"""What a report is made from: judged checkpoints and where they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.checkpoint import Checkpoint
from sentinel.stats.quick import Skipped
from sentinel.verdict import LEVELS, Level, NotEvaluated, Verdict

if TYPE_CHECKING:
    from sentinel.flow import Judgement

_KINDS = 1024
"""How many different lists of rules that could not be asked are known again."""


@dataclass(frozen=True, slots=True)
class ScanEntry:
    """One judged checkpoint; run, attempt and id are None where no run is known.

    ``skipped`` is what a quick look left out, None of a whole one.
    """

    checkpoint: Checkpoint
    verdict: Verdict
    run: str | None = None
    attempt: int | None = None
    checkpoint_id: str | None = None
    skipped: Skipped | None = None


def entry_of(judgement: Judgement) -> ScanEntry:
    """Return the entry of a checkpoint of many, which holds what a report tells and no more.

    Of its tensors those that a finding names are left; the list of rules that could not be
    asked, which is mostly the same, is shared by all that have it.
    """
    checkpoint, measured, verdict = judgement.checkpoint, judgement.measured, judgement.verdict
    named = {name for found in verdict.findings for name in found.tensors}
    told = replace(
        checkpoint,
        tensors=tuple(tensor for tensor in checkpoint.tensors if tensor.name in named),
        adapter=None,
        metrics=(),
        settings=MappingProxyType({}),
        optimizer=None,
    )
    return ScanEntry(
        told,
        replace(verdict, not_evaluated=_shared(verdict.not_evaluated)),
        skipped=measured.skipped if measured else None,
    )


@lru_cache(_KINDS)
def _shared(missed: tuple[NotEvaluated, ...]) -> tuple[NotEvaluated, ...]:
    """Return the first of all equal lists."""
    return missed


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Everything one scan said, in the order it is told."""

    entries: tuple[ScanEntry, ...]

    @property
    def summary(self) -> dict[Level, int]:
        """Return how many checkpoints got each verdict, also those nobody got."""
        counts = Counter(entry.verdict.level for entry in self.entries)
        return {level: counts[level] for level in (*LEVELS[:2], "faulty", "unreadable")}
