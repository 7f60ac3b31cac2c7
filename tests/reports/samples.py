"""Checkpoints and verdicts to report on, as a fine-tuning run of OneTrainer or PEFT gives them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sentinel.checkpoint import Checkpoint, Member, Tensor
from sentinel.health.rows import (
    CheckpointRow,
    EventKind,
    EventRow,
    checkpoint_row,
    finding_events,
)
from sentinel.reports.entries import ScanEntry
from sentinel.verdict import Finding, NotEvaluated, Verdict

BASE = Path("/runs/cat-lora")


def checkpoint(
    path: Path,
    *,
    layout: str = "transformers-checkpoint",
    trainer: str | None = "transformers",
    step: int | None = 40,
) -> Checkpoint:
    member = Member("adapter_model.safetensors", "weights", 4096, 1, 2, 3)
    tensor = Tensor("q.lora_B.weight", member.path, "F16", (8, 8), 0, 128, "lora_up")
    return Checkpoint(
        path=path,
        layout=layout,
        trainer=trainer,
        step=step,
        epoch=None,
        updates_done=step,
        complete=True,
        members=(member,),
        tensors=(tensor,),
    )


DEAD = Finding(
    rule="dead-lora-up",
    severity="critical",
    message=(
        "all 264 lora_up matrices are exactly zero after 500 updates, so the adapter changes "
        "nothing: in fp16 the optimizer's first steps are too small to be stored; train the "
        "adapter weights in fp32"
    ),
    tensors=tuple(f"layers.{n}.attn.to_q.lora_up.weight" for n in range(20)),
    tensor_count=264,
    remedy={"resume": {"precision": "fp32", "cause": "resolution", "optimizer": "drop"}},
)
NAN = Finding(
    rule="nan-values",
    severity="critical",
    message="2 of 35 tensors hold NaN, first 'score.modules_to_save.weight' (18 of 384 values)",
    tensors=("score.modules_to_save.weight", "layers.0.q_proj.lora_B.weight"),
    tensor_count=2,
    remedy={"resume": {"precision": "auto", "cause": "range", "optimizer": "drop"}},
)
LOSS = Finding(
    rule="loss-zero",
    severity="warning",
    scope="run",
    safety="likely",
    message="the trainer logged a loss of exactly 0 at step 60, which is how it prints NaN",
)
TORN = Finding(
    rule="truncated-file",
    severity="unreadable",
    message=(
        "file 'optimizer.pt' in 'checkpoint-80': the end record is missing at byte 812336; "
        "the write was cut short"
    ),
    parts=("optimizer",),
)
SKIPPED = (
    NotEvaluated("norm-explosion", "the base model is not known"),
    NotEvaluated("dtype-mismatch-base", "the base model is not known"),
    NotEvaluated("stalled-updates", "there is no earlier checkpoint"),
)

ENTRIES = (
    ScanEntry(
        checkpoint(BASE / "checkpoint-20", step=20),
        Verdict("healthy", ("weights", "optimizer"), (), SKIPPED),
    ),
    ScanEntry(checkpoint(BASE / "checkpoint-40"), Verdict("faulty", (), (DEAD,), SKIPPED[:2])),
    ScanEntry(
        checkpoint(BASE / "checkpoint-60", step=60), Verdict("faulty", (), (NAN, LOSS)), None
    ),
    ScanEntry(
        checkpoint(BASE / "checkpoint-80", step=80),
        Verdict("unreadable", ("weights",), (TORN,)),
    ),
    ScanEntry(
        checkpoint(
            BASE / "exports" / "watercolour-cats-v3-fp16-000012.safetensors",
            layout="kohya-lora",
            trainer="sd-scripts",
            step=None,
        ),
        Verdict("suspect", ("weights",), (LOSS,)),
    ),
)

RUN = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
BEGIN = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


def _row(
    entry: ScanEntry, attempt: int, seq: int, minutes: int, *, loss: float | None
) -> CheckpointRow:
    row = checkpoint_row(
        entry.checkpoint,
        entry.verdict,
        run_id=RUN,
        attempt=attempt,
        seq=seq,
        checkpoint_id=f"{attempt}{seq}" * 8,
        parent=None,
        seen_at=at(minutes),
        settled_at=at(minutes),
        judged_at=at(minutes),
        measure_s=0.25,
    )
    return row if loss is None else replace(row, settings={"metrics.loss": loss})


def _event(kind: EventKind, attempt: int, minutes: int, message: str) -> EventRow:
    return EventRow(f"{kind}-{attempt}-{minutes}", RUN, attempt, kind, message, at(minutes))


GOOD = Verdict("healthy", ("weights", "optimizer"))
CHECKPOINT_ROWS = (
    _row(ENTRIES[0], 1, 1, 10, loss=2.6449),
    _row(ENTRIES[1], 1, 2, 20, loss=2.6447),
    _row(replace(ENTRIES[0], verdict=GOOD), 2, 3, 35, loss=2.2103),
    _row(replace(ENTRIES[1], verdict=GOOD), 2, 4, 45, loss=1.6351),
)
EVENT_ROWS = (
    _event("attempt", 1, 0, "sentinel-train recipe.yaml, from the base model"),
    *finding_events(
        ENTRIES[1].verdict,
        run_id=RUN,
        attempt=1,
        checkpoint_id=CHECKPOINT_ROWS[1].checkpoint_id,
        at=at(20),
    ),
    _event("plan", 1, 21, "start again from step 20 in fp32, without the saved optimizer state"),
    _event("action", 1, 22, "stopped 3 processes; moved 'checkpoint-40' to quarantine"),
    _event("attempt", 2, 25, "sentinel-train recipe.yaml, from 'checkpoint-20'"),
    _event("outcome", 2, 46, "the repair holds: 264 of 264 lora_up matrices moved"),
)
