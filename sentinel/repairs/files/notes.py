"""What whoever goes on with a copy has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentinel.checkpoint import Checkpoint
    from sentinel.receipt import CopyPlan


_TENSORS = ".safetensors"
_AVERAGES = frozenset({"ema.pt", "ema_model.pt"})


def notes_of(plan: CopyPlan, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the sentences for a plan."""
    return tuple(_notes(plan, checkpoint))


def _notes(plan: CopyPlan, checkpoint: Checkpoint) -> Iterator[str]:
    has_optimizer = any(member.part == "optimizer" for member in checkpoint.members)
    if plan.optimizer != "keep" and not has_optimizer:
        yield "no optimizer state lies in the original"
    if plan.cast == "fp16" and plan.optimizer == "keep" and has_optimizer:
        yield (
            "torch casts the kept moments to the parameters' own precision when it loads them, and"
            " in fp16 small second moments become zero: prefer --optimizer drop where the trainer"
            " keeps its parameters in fp16"
        )
    if plan.optimizer == "keep" and has_optimizer and plan.layout != "onetrainer-backup":
        yield (
            "the kept optimizer state brings its own settings back: a new learning rate takes"
            " effect with --optimizer drop only"
        )
    others = _not_cast(plan, checkpoint)
    if others:
        yield f"not cast, since they are no weights of the adapter: {', '.join(others)}"


def _not_cast(plan: CopyPlan, checkpoint: Checkpoint) -> list[str]:
    """Return the files of tensors that a cast leaves alone: averages, embeddings, more models."""
    state = {member.path for member in checkpoint.members if member.part == "state"}
    return sorted(
        file.path
        for file in plan.files
        if plan.cast
        and file.source in state
        and (file.source.endswith(_TENSORS) or file.source.rpartition("/")[2] in _AVERAGES)
    )
